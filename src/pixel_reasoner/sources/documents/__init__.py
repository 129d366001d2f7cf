"""Questions about the text of pages: lines and tables of a page, candidates, legibility. `sources.text` is the source."""
