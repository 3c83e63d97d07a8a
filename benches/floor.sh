#!/usr/bin/env bash
# The same five operations on the same recipe as a careful shell script would do them: docker stack deploy, docker
# service, docker stack rm. What the harness's own runs on a Swarm are measured against; see benches/swarm.rs.
#
#     benches/floor.sh <recipe> <base directory> <head directory>
set -euo pipefail
recipe=$1 base=$2 head=$3

id=$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
export DOMAIN=floor-$id.example.test LETS_ENCRYPT_ENV= EXTRA_DOMAINS=
export STACK_NAME=${DOMAIN//./_}
work=$(mktemp -d)

log() { echo "$(date +%s.%N) $*" >&2; }

cleanup() {
    docker stack rm "$STACK_NAME" >/dev/null 2>&1 || true
    # `stack rm` returns with containers, networks and volumes alive.
    until [ -z "$(docker ps -aq --filter "label=com.docker.stack.namespace=$STACK_NAME")" ]; do sleep 0.1; done
    until docker network rm "${STACK_NAME}_proxy" >/dev/null 2>&1 || ! docker network inspect "${STACK_NAME}_proxy" >/dev/null 2>&1; do sleep 0.1; done
    until [ -z "$(docker network ls -q --filter "label=com.docker.stack.namespace=$STACK_NAME")" ]; do sleep 0.1; done
    for volume in $(docker volume ls -q --filter "label=com.docker.stack.namespace=$STACK_NAME"); do
        until docker volume rm "$volume" >/dev/null 2>&1; do sleep 0.1; done
    done
    docker secret rm "${STACK_NAME}_db_password_v1" >/dev/null 2>&1 || true
    rm -rf "$work"
    log "torn down"
}
trap cleanup EXIT

# Without IPVS names must lead to containers; a run's own proxy network, as the harness makes one.
docker network create -d overlay "${STACK_NAME}_proxy" >/dev/null
{
    echo 'version: "3.8"'
    echo 'services:'
    for service in $(sed -n '/^services:/,/^[a-z]/s/^  \([a-z]*\):$/\1/p' "$base/compose.yml"); do
        printf '  %s:\n    deploy:\n      endpoint_mode: dnsrr\n' "$service"
    done
    printf 'networks:\n  proxy:\n    external: true\n    name: %s_proxy\n' "$STACK_NAME"
} >"$work/run.yml"
export SECRET_DB_PASSWORD_VERSION=v1
if grep -q db_password "$base/compose.yml"; then
    head -c 24 /dev/urandom | base64 | docker secret create "${STACK_NAME}_db_password_v1" - >/dev/null
fi

deploy() {
    eval "$(grep '^export' "$1/abra.sh")"
    docker stack deploy -c "$1/compose.yml" -c "$work/run.yml" --resolve-image always "$STACK_NAME" >/dev/null 2>&1
}

services() { docker stack services "$STACK_NAME" --format '{{.Name}}'; }

# Every service runs as many tasks as it should, and no update is under way or was rolled back.
converge() {
    for service in $(services); do
        while :; do
            state=$(docker service inspect "$service" --format '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}')
            replicas=$(docker service ls --filter "name=$service" --format '{{.Replicas}}')
            case $state in
                rollback*|paused) log "$service: $state"; exit 1 ;;
                ''|completed) [ "$replicas" = 1/1 ] && break ;;
            esac
            sleep 0.1
        done
    done
}

container() { docker ps -q --filter "label=com.docker.swarm.service.name=${STACK_NAME}_$1" | head -1; }

log "start"
deploy "$base"; converge; log "installed"
# `deploy` returns before the update has begun.
deploy "$head"; sleep 0.5; converge; log "upgraded"
case $recipe in
    custom-html)
        docker exec "$(container app)" tar -C /usr/share/nginx/html -c . >"$work/backup.tar"; log "backed up"
        docker exec -i "$(container app)" tar -C /usr/share/nginx/html -x <"$work/backup.tar"; log "restored"
        docker exec "$(container app)" curl -sf http://localhost/ >/dev/null
        ;;
    guestbook)
        docker exec "$(container db)" /pg_backup.sh backup
        docker exec "$(container db)" tar -C /var/lib/postgresql/data -c backup.sql >"$work/backup.tar"; log "backed up"
        docker exec -i "$(container db)" tar -C /var/lib/postgresql/data -x <"$work/backup.tar"
        docker exec "$(container db)" /pg_backup.sh restore; log "restored"
        ;;
esac
log "checked"
