"""Visual inspection: comparison with golden pictures, verdicts with evidence, metrics, exports, audit trail.

spec        what a good part is, classes of defects, regions, thresholds (TOML)
layouts/    folders of MVTec AD, MVTec AD 2, VisA, Real-IAD, anomalib, or plain ones
golden      several golden pictures as one reference; registration, difference
proposals   numbered places that the model must look at
questions   what the model is asked, and how its answer is read
verdicts    ok, defect, unsure or error, from proposals and answers
thresholds  chosen on a validation split for a stated miss rate
metrics     overkill, miss rate, AUROC, F1, AUPRO, recall per class
exports/    COCO, YOLO, Label Studio, FiftyOne, SARIF, JUnit XML, CSV
review      corrections of people, as training rows and regression tests
engine      all of it, over many pictures
"""
