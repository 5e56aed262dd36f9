"""Labelled point clouds: one type, its sets, and one door to them.

point_clouds  what a set of labelled clouds is
cad_parts     KiCad's models, split by families of names
originals     ModelNet40 and ScanObjectNN, from the HDF5 files of a user
sets          any of them by name
"""
