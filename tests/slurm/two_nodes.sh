#!/usr/bin/env bash
# `two_nodes.sh start FOLDER` makes this machine a SLURM cluster of two nodes, n1 and n2, of one CPU each; `stop FOLDER`
# ends it. Needs root and the packages slurm-wlm and munge. Afterwards SLURM_CONF=FOLDER/slurm.conf says where it is.
set -euo pipefail
verb=$1
folder=$(realpath "$2")

configure() {
    host=$(hostname -s)
    cat >"$folder/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17310
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17311-17312] CPUs=1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
EOF
}

idle_nodes() { sinfo --noheader --states=idle --format=%D 2>/dev/null || true; }

start() {
    mkdir -p "$folder/state" /run/munge
    chown munge: /run/munge
    munge --no-input >/dev/null 2>&1 || su --shell /bin/sh munge --command /usr/sbin/munged
    configure
    export SLURM_CONF=$folder/slurm.conf
    slurmctld
    slurmd -N n1
    slurmd -N n2
    for _ in $(seq 240); do
        [ "$(idle_nodes)" = 2 ] && return
        sleep 0.5
    done
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

stop() {
    for file in "$folder"/slurmd.*.pid "$folder/slurmctld.pid"; do
        [ -s "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" || continue
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done  # its port is free after that
    done
}

"$verb"
