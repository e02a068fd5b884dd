"""Prints the schema that all tenants share: `python -m api.graphql`."""

import sys

from api.graphql.schema import platform

sys.stdout.write(platform().as_str() + "\n")
