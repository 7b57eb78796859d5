# SPDX-License-Identifier: GPL-2.0-only
"""A patch series from patch to verdict: is each commit sound, what does it change, is it tested.

It composes what the other packages do to a single tree. From input to output::

    mail       mails of a list's archive: which of them are the patches, in which order
    history    the same of a git repository: ranges, and the commit that patches were made for
    commits    either as commits, each with the tree that it leaves
    plan       what is to be done, task by task; a further check of a commit is added there
    work       what a task does, in a process of its own (`worker`)
    tasks      runs tasks on the cores there are, and keeps what came of them in the cache
    recording  a conversation played without the model
    behaviour  compares two trees by conversations, and `showing` shows how they differ
    lines      which lines a commit has added, and where they are at the end of the series
    findings   what there is to say of a commit
    regressions, verdict
               put it together: what is wrong with which commit, and what a later one mends
    output     the terminal; `reports` are the files: HTML, text, JSON, JUnit, SARIF
    search     by halves, for the first commit at which a test fails

An arrow only ever points up: a module knows nothing of those below it.
"""
