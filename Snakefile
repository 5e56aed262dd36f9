# The DAG: pair -> executed notebook -> claims -> page.
#
#   snakemake --cores 2                     everything that is stale, then the book
#   snakemake --cores 2 --executor slurm    the same on a cluster, through an executor plugin
#
# A job file changes only if something its notebook depends on changes (code, package sources, ledger,
# parameters, data manifest, lock). Its time is therefore the only thing the rule has to look at, and
# touching a source runs nothing.
import sys
from pathlib import Path

import eventbook.companion.execution
from eventbook.companion.execution.jobs import all_jobs
from eventbook.companion.project import Project

project = Project.find()
jobs = all_jobs(project)
for job in jobs:
    job.write()


rule book:
    default_target: True
    input:
        f"{project.build}/claims.json",
    output:
        f"{project.build}/html/index.html",
    shell:
        "{sys.executable:q} -m eventbook.companion build --no-run"


rule claims:
    input:
        [str(job.path("ipynb")) for job in jobs],
    output:
        f"{project.build}/claims.json",
    shell:
        "{sys.executable:q} -m eventbook.companion claims --json > {output:q}"


# rule execute, the same that `eventbook run` uses
include: str(Path(eventbook.companion.execution.__file__).with_name("execute.smk"))
