"""
Small helpers that any stage uses: clock, days, files, and text of messages.
"""
