"""Results as DICOM objects, for a PACS and its viewers: SR, GSPS, Mammography CAD SR, pictures.

What each object holds and what is not claimed: docs/dicom_conformance.md.
"""
