"""Texts as word ids: one type, its sets, and one door to them.

corpus              what a text in three parts is
state_of_the_union  two centuries of addresses, split by address
originals           Penn Treebank and WikiText-2, from the files of a user
sets                any of them by name
"""
