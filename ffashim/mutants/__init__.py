# SPDX-License-Identifier: GPL-2.0-only
"""Mutation testing: how many small mistakes in a tree's handlers the suite notices."""
