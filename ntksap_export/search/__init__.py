"""Methods that train in order to find their mask. Importing this room loads no torch; running a search does."""

from ntksap_export.search.job import Found, SearchJob, run_search
from ntksap_export.search.table import SEARCHES, SearchInfo, check_search, search_of

__all__ = ["SEARCHES", "Found", "SearchInfo", "SearchJob", "check_search", "run_search", "search_of"]
