#!/usr/bin/env bash
# A small Slurm that is real, for tests: by default two logical nodes on this machine, as plain processes, with
# every file in one folder. It needs neither systemd nor a configuration of the machine, and installs nothing.
#
#   slurm-local.sh start DIR     write the configuration, start the daemons, wait for the nodes
#   slurm-local.sh status DIR    daemons and nodes; succeeds only if all are up
#   slurm-local.sh stop DIR      cancel the jobs, stop the daemons (DIR stays, with the state of the cluster)
#
# After a start, `source DIR/env.sh` makes this cluster the one that sbatch, squeue and so on talk to.
#
# Debian and Ubuntu: apt-get install --no-install-recommends slurm-wlm munge     (tried with Slurm 22.05)
#
# Environment, read at the start of a cluster that is not running yet:
#   SLURM_LOCAL_NODES=2  SLURM_LOCAL_CPUS=8  SLURM_LOCAL_MEM_MB=16000  SLURM_LOCAL_GPUS=2   per node
#   SLURM_LOCAL_PREFIX=127.0.0.   nodes are called PREFIX1, PREFIX2, ...
#   SLURM_LOCAL_CRED_EXPIRE=5     seconds; a requeued job waits one more than this (real clusters: 121)
#   SLURM_LOCAL_KILL_WAIT=2  SLURM_LOCAL_GRACE=10  SLURM_LOCAL_PORT=auto  SLURM_LOCAL_WAIT=30
#
# There are two partitions: main, and preempt, whose jobs go back into the queue when main needs their room. GPUs
# are pretended: Slurm counts them and sets CUDA_VISIBLE_DEVICES, but there is no device behind.
set -u -o pipefail
PATH=$PATH:/usr/sbin:/sbin

die() { echo "slurm-local: ERROR: $*" >&2; exit 1; }
say() { echo "slurm-local: $*"; }
usage() { sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }

[ $# -eq 2 ] || usage
CMD=$1
case $CMD in start|stop|status) ;; *) usage ;; esac
[ "$CMD" = start ] && { mkdir -p "$2" || die "cannot create $2"; }
DIR=$(cd "$2" 2>/dev/null && pwd -P) || die "no such directory: $2"
case $DIR in *[[:space:],%#=\[\]\\\"\']*) die "the path must not hold spaces, quotes or , % # = [ ] (Slurm's config cannot): $DIR" ;; esac
[ ${#DIR} -le 60 ] || die "path longer than 60 characters, too long for unix sockets: $DIR"
export SLURM_CONF=$DIR/slurm.conf

NODES=${SLURM_LOCAL_NODES:-2} CPUS=${SLURM_LOCAL_CPUS:-8} MEM=${SLURM_LOCAL_MEM_MB:-16000}
GPUS=${SLURM_LOCAL_GPUS:-2} CRED=${SLURM_LOCAL_CRED_EXPIRE:-5} KILLW=${SLURM_LOCAL_KILL_WAIT:-2}
GRACE=${SLURM_LOCAL_GRACE:-10} WAIT=${SLURM_LOCAL_WAIT:-30} PREFIX=${SLURM_LOCAL_PREFIX:-127.0.0.}

# --- processes -------------------------------------------------------------------------------
# Alive and ours if the command line names our folder. `kill -0` would take a zombie for alive, and in a container
# whose first process does not reap, every daemon that ends becomes one.
running() { { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null | grep -qF -- "$DIR/"; }
pid_of() {
    local pid
    pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && running "$pid" && echo "$pid"
}
node_names() { sed -n 's/^NodeName=\([^ ]*\).*/\1/p' "$DIR/slurm.conf" 2>/dev/null; }
daemons() {
    echo munged; echo slurmctld
    local n; for n in $(node_names); do echo "slurmd-$n"; done
}
stepds() {      # the title of a slurmstepd names no folder, but its environment does
    local p
    for p in /proc/[0-9]*; do
        [ "$(cat "$p/comm" 2>/dev/null)" = slurmstepd ] || continue
        { tr '\0' '\n' <"$p/environ"; } 2>/dev/null | grep -qxF "SLURM_CONF=$SLURM_CONF" &&
            echo "${p#/proc/}"
    done
}
show_logs() {
    local f
    for f in "$DIR"/log/*.log; do
        [ -s "$f" ] || continue
        echo "--- last lines of $f" >&2; grep -viE 'pmix' "$f" | tail -n 8 >&2
    done
    grep -qs 'getaddrinfo() failed' "$DIR"/log/* && say "hint: on a machine with loopback addresses only, Slurm
  resolves no name at all. One more address helps (as root): ip addr add 192.0.2.9/32 dev lo" >&2
}
node_states() { timeout 10 sinfo -h -N -o '%N %T' 2>&1 | sort -u; }
all_up() {
    local out; out=$(node_states) || return 1
    [ "$(grep -cE ' (idle|mixed|allocated|completing)$' <<<"$out")" -eq "$(node_names | wc -l)" ]
}
run_daemon() {                  # name, command...
    local name=$1 i; shift
    pid_of "$name" >/dev/null && return 0
    rm -f "$DIR/run/$name.pid"
    # a session and a log of its own: who captures our output must not wait for the daemons to close it
    (cd / && exec setsid "$@") </dev/null >"$DIR/log/$name.out" 2>&1 ||
        { cat "$DIR/log/$name.out" >&2; show_logs; die "$name did not start: $*"; }
    for i in $(seq 100); do pid_of "$name" >/dev/null && return 0; sleep 0.05; done
    cat "$DIR/log/$name.out" >&2; show_logs; die "$name started, but is not running: $*"
}
port_free() { ! { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null; }

# --- configuration ---------------------------------------------------------------------------
write_config() {
    local i n ok base=${SLURM_LOCAL_PORT:-} names="" gres="" gpu_files="" me
    mkdir -p "$DIR"/{log,run,state,spool,dev,bin} || die "cannot write in $DIR"
    chmod 755 "$DIR"/{run,log,state,spool}
    if [ -z "$base" ]; then     # between 20000 and 30000, where the kernel hands out no ports by itself
        base=$((20000 + $(printf %s "$DIR" | cksum | cut -d' ' -f1) % 400 * 20))
        for _ in $(seq 100); do
            ok=1; for i in $(seq 0 "$NODES"); do (port_free $((base + i))) || ok=0; done
            [ $ok = 1 ] && break
            base=$((base + 20))
        done
        [ $ok = 1 ] || die "found no free ports below $base; set SLURM_LOCAL_PORT"
    else
        for i in $(seq 0 "$NODES"); do
            (port_free $((base + i))) || die "port $((base + i)) is taken (SLURM_LOCAL_PORT=$base needs it and the $NODES after $base)"
        done
    fi
    [ -s "$DIR/munge.key" ] || (umask 077; head -c 128 /dev/urandom >"$DIR/munge.key")

    if [ "$GPUS" -gt 0 ]; then
        # slurmd counts only GPUs that are character devices, and numbers them by the end of their names. Copies
        # of /dev/null serve; without the right to make any, the consoles lend theirs.
        gres="Gres=gpu:$GPUS" gpu_files=$DIR/dev/gpu
        for i in $(seq 0 $((GPUS - 1))); do
            [ -c "$DIR/dev/gpu$i" ] || mknod -m 666 "$DIR/dev/gpu$i" c 1 3 2>/dev/null || gpu_files=/dev/tty
        done
        for i in $(seq 0 $((GPUS - 1))); do
            [ -c "$gpu_files$i" ] || die "no fake GPU: mknod is refused and there is no $gpu_files$i; set SLURM_LOCAL_GPUS=0"
        done
    fi
    me=$(id -un) || die "user id $(id -u) has no name, Slurm needs one"
    {
        cat <<CONF
# written by slurm-local.sh
ClusterName=local
# whatever the machine is called
SlurmctldHost=localhost
SlurmctldPort=$base
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$DIR/run/munge.socket,cred_expire=$CRED
MailProg=/bin/true
MpiDefault=none
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log
# nothing that a container may lack: no cgroups, no pinning, no accounting
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$DIR/log/jobcomp.txt
# ended jobs stay known for a day, since sacct (below) has nobody else to ask
MinJobAge=86400
MaxJobCount=100000
# a new cluster must not use the job ids of an old one: logs and records may still lie about
FirstJobId=$(($(date +%s) % 60000000 + 1000))
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
# nodes may say that they have more than the machine has
SlurmdParameters=config_overrides
# a node that was silent comes back by itself, one that was set down does not
ReturnToService=1
SlurmdTimeout=0
# no waiting about
KillWait=$KILLW
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
# a preempted job hears its --signal at once and goes back into the queue GraceTime seconds later
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
CONF
        for i in $(seq 1 "$NODES"); do
            n=$PREFIX$i names=$names${names:+,}$n
            mkdir -p "$DIR/spool/$n"
            # addresses as names: processes of several nodes find one another by name, and /etc/hosts knows none
            echo "NodeName=$n NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((base + i))" \
                "CPUs=$CPUS RealMemory=$MEM $gres State=UNKNOWN"
        done
        echo "PartitionName=main Nodes=$names Default=YES MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP"
        echo "PartitionName=preempt Nodes=$names MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE State=UP"
    } >"$DIR/slurm.conf"
    for i in $(seq 1 "$NODES"); do
        [ "$GPUS" -gt 0 ] && echo "NodeName=$PREFIX$i Name=gpu File=${gpu_files}[0-$((GPUS - 1))]"
    done >"$DIR/gres.conf"

    # Hydra's submitit launcher learns from sacct how its jobs are. The real one needs slurmdbd and a database;
    # this one passes on what squeue remembers.
    cat >"$DIR/bin/sacct" <<'SACCT'
#!/usr/bin/env bash
# written by slurm-local.sh: a sacct for the few questions that submitit asks, answered by squeue
bad() { echo "sacct of slurm-local.sh: $*" >&2; exit 1; }
ids="" fields="JobID,State,NodeList" head=1
while [ $# -gt 0 ]; do
    case $1 in
        -j|--jobs) ids=$ids,$2; shift ;;  --jobs=*) ids=$ids,${1#*=} ;;  -j*) ids=$ids,${1#-j} ;;
        -o|--format) fields=$2; shift ;;  --format=*) fields=${1#*=} ;;  -o*) fields=${1#-o} ;;
        -p|-P|--parsable|--parsable2|-X|--allocations) ;;
        -n|--noheader) head="" ;;
        *) bad "option $1 is not known" ;;
    esac
    shift
done
fmt=""
for f in ${fields//,/ }; do
    case ${f,,} in
        jobid) c=%i ;; jobidraw) c=%A ;; state) c=%T ;; nodelist) c=%N ;; jobname) c=%j ;;
        partition) c=%P ;; reason) c=%r ;; elapsed) c=%M ;; timelimit) c=%l ;; nnodes) c=%D ;;
        user) c=%u ;; start) c=%S ;; end) c=%e ;; submit) c=%V ;; workdir) c=%Z ;;
        *) bad "field $f is not known" ;;
    esac
    fmt=$fmt${fmt:+|}$c
done
all=$(squeue --noheader --all --array --states=all --format="%A|%F|%i|$fmt") || exit 1
[ -n "$head" ] && echo "${fields//,/|}"
[ -z "$all" ] || awk -F'|' -v ids="$ids" '
    BEGIN { n = split(ids, a, ","); for (k = 1; k <= n; k++) if (a[k] != "") { want[a[k]] = 1; some = 1 } }
    !some || ($1 in want) || ($2 in want) || ($3 in want) { sub(/^[^|]*\|[^|]*\|[^|]*\|/, ""); print }' <<<"$all"
SACCT
    chmod 755 "$DIR/bin/sacct"
    cat >"$DIR/env.sh" <<ENV
export SLURM_CONF=$DIR/slurm.conf
case ":\$PATH:" in *":$DIR/bin:"*) ;; *) export PATH=$DIR/bin:\$PATH ;; esac
ENV
}

# --- commands --------------------------------------------------------------------------------
lock() { exec 9>"$DIR/.lock"; flock -w 90 9 || die "another start or stop is at work in $DIR"; }

start() {
    local c n t0 end tried="" missing="" alive=""
    t0=$(date +%s%N)
    for c in munged slurmctld slurmd sinfo sbatch srun squeue scontrol scancel; do
        command -v "$c" >/dev/null || missing="$missing $c"
    done
    [ -z "$missing" ] || die "not installed:$missing
  try: apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge"
    lock
    for n in $(daemons); do pid_of "$n" >/dev/null && alive="$alive $n"; done
    if [ -n "$alive" ]; then say "running already in $DIR, configuration kept:$alive"
    else write_config; trap '[ $? -eq 0 ] || stop_all' EXIT; fi      # a failed start leaves nothing behind
    # 9>&-: daemons do not inherit the lock, which they would hold
    run_daemon munged munged --force --origin=127.0.0.1 --socket="$DIR/run/munge.socket" \
        --key-file="$DIR/munge.key" --pid-file="$DIR/run/munged.pid" \
        --log-file="$DIR/log/munged.log" --seed-file="$DIR/run/munged.seed" 9>&-
    run_daemon slurmctld slurmctld -f "$SLURM_CONF" 9>&-
    for n in $(node_names); do run_daemon "slurmd-$n" slurmd -f "$SLURM_CONF" -N "$n" 9>&-; done
    end=$((SECONDS + WAIT))
    until all_up; do
        if [ $SECONDS -ge $end ]; then
            node_states >&2; timeout 10 sinfo -h -R -o '%n: %E' >&2
            show_logs; die "the nodes are not up after $WAIT s (states, reasons and logs above)"
        fi
        # a node may have been set down before the cluster was stopped
        if [ -z "$tried" ] && [ $((end - SECONDS)) -lt $((WAIT - 1)) ]; then
            tried=1
            for n in $(node_states | awk '$2 ~ /drain|down/ {print $1}'); do
                timeout 10 scontrol update nodename="$n" state=resume 2>/dev/null
            done
        fi
        sleep 0.1
    done
    say "up after $((($(date +%s%N) - t0) / 1000000)) ms: $(node_states | tr '\n' ';') next: source $DIR/env.sh"
}

stop() { lock; stop_all; say "stopped ($DIR)"; }

stop_all() {
    local n p i jobs
    if pid_of slurmctld >/dev/null; then
        jobs=$(timeout 10 squeue -h -a -o %A 2>/dev/null | sort -u)
        [ -n "$jobs" ] && timeout 20 scancel $jobs 2>/dev/null
        for i in $(seq $(((KILLW + 13) * 5))); do      # jobs that do not obey take a while
            [ -z "$(timeout 10 squeue -h -a -o %A 2>/dev/null)" ] && break
            sleep 0.2
        done
    fi
    for n in $(daemons | tac); do                       # in the opposite order
        p=$(pid_of "$n") || continue
        kill "$p" 2>/dev/null
        for i in $(seq 100); do running "$p" || break; sleep 0.1; done
        if running "$p"; then say "$n ($p) ignores TERM, killing it"; kill -9 "$p"; fi
    done
    for p in $(stepds); do say "killing left-over slurmstepd $p"; kill -9 "$p" 2>/dev/null; done
    rm -f "$DIR"/run/*.pid
}

status() {
    local n p rc=0
    [ -f "$DIR/slurm.conf" ] || die "no cluster was ever started in $DIR"
    for n in $(daemons); do
        if p=$(pid_of "$n"); then
            echo "$n up pid=$p rss_kb=$(awk '/VmRSS/ {print $2}' "/proc/$p/status")"
        else echo "$n DOWN"; rc=1; fi
    done
    if [ $rc -eq 0 ]; then node_states; all_up || rc=1; fi
    return $rc
}
$CMD
