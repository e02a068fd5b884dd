"""SQL criteria of segments: parsed, written anew from the tree, run as a role that reads one tenant's views alone."""

from services.marketing.criteria.criteria import Criteria, parse
from services.marketing.criteria.running import Preview, check, holds, pages, preview

__all__ = ["Criteria", "Preview", "check", "holds", "pages", "parse", "preview"]
