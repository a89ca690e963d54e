"""Pseudonymised export of results, images and registry tables: DICOM PS3.15 Annex E with keyed pseudonyms."""
