# Snakemake's way to execute a notebook: the one rule that `eventbook run` uses, included by the Snakefile.
import sys

from eventbook.companion.project import Project

build = str(Project.find().build)


rule execute:
    input:
        f"{build}/runs/{{run}}.job.json",
    output:
        f"{build}/runs/{{run}}.ipynb",
    log:
        f"{build}/runs/{{run}}.log.txt",
    threads: 1
    shell:
        "{sys.executable:q} -m eventbook.companion.execution.execute {input:q} > {log:q} 2>&1"
