"""
What the provider and its readers agree on; apart from the provider, so that no reader pays for a server's imports.
"""

from datetime import date

FIRST_DAY = date(2016, 3, 1)
LEADS_PER_PAGE = 100
JOBS_PER_PAGE = 1000
