"""Where files of data come from and how they are checked: nothing here knows what is in them.

errors      the one error of the data layer
manifest    which sets exist, under which licence, and what their files hash to
store       finds the files of a set, checks them, says where they came from
download    fetches originals: checked, atomic, resumable
unpacking   unpacked copies of the .gz files, for readers that want them so
folders     finds the folders of originals that the manifest does not list
extras      packages that only originals need
idx         the format in which MNIST is published
"""
