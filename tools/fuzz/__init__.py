"""Damaged DICOM files by the thousand, to see that each is read or refused."""
