"""`throughline inbound` without the other commands, whose import takes most of its start: the options as JSON."""

import json
import sys

from receiver import process

options = json.loads(sys.argv[1])
sys.exit(
    process.run(
        tenant=options.get("tenant"), recipient=options.get("recipient"), listen=options.get("listen"), lmtp=False
    )
)
