"""Writers of moments: EDL, FCPXML, OpenTimelineIO, SRT, WebVTT, CSV, XMP and chapters."""
