#!/bin/sh
# Build container images with the names that Dockerfile and docker-compose.yml use, from Debian
# packages, for a machine that reaches a Debian mirror and a Python index but no container registry.
#
#   images.sh FOLDER      needs root, debootstrap and podman; FOLDER holds the root file system
#
# Existing images are not changed. Grafana and SeaweedFS are not in Debian.
set -eu
cd "$(dirname "$0")/../.."
folder=$1
root=$folder/rootfs
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
python=$(sed -n 's/^FROM \(python:[^ ]*\) AS base$/\1/p' Dockerfile)
redis=$(sed -n 's/^ *image: \(redis:.*\)$/\1/p' docker-compose.yml)
prometheus=$(sed -n 's/^ *image: \(prom\/prometheus:.*\)$/\1/p' docker-compose.yml)

# Use this machine's certificates and its configuration of pip and apt inside builds too.
copy_configuration() {
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
    links=$(python3 -m pip config list | sed -n "s/^\(:env:\.\|global\.\)find-links='\(\/.*\)'$/\2/p" | head -n 1)
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$root/etc/pip.conf"
    if [ -n "$links" ]; then
        mkdir -p "$root$links"
        cp -r "$links/." "$root$links"
        printf 'find-links = %s\n' "$links" >> "$root/etc/pip.conf"
    fi
}

if ! podman image exists "docker.io/library/$python"; then
    if ! [ -e "$root/etc/debian_version" ]; then
        echo "debootstrap: Debian with Python"
        debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip \
            bookworm "$root" "$mirror" > "$folder/debootstrap.log"
    fi
    copy_configuration
    for program in python:python3 python3:python3 pip:pip3; do
        ln -sf "/usr/bin/${program#*:}" "$root/usr/local/bin/${program%:*}"
    done
    rm -f "$root/usr/lib/python3.11/EXTERNALLY-MANAGED"
    echo "import: $python"
    tar -C "$root" -c . | podman import --quiet --change 'CMD ["python3"]' --change \
        'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
        - "docker.io/library/$python" > "$folder/import.log"
fi

# build NAME PACKAGES INSTRUCTIONS: build an image on top of the Python image
build() {
    if ! podman image exists "$1"; then
        echo "build: ${1#docker.io/}"
        printf 'FROM docker.io/library/%s\nRUN %s\n%s\n' "$python" \
            "apt-get update -q && apt-get install -qy --no-install-recommends $2" "$3" \
            | podman build --quiet --network=host --tag "$1" --file - . > "$folder/build.log"
    fi
}

build "docker.io/library/$redis" \
    "redis-server && install -d -o redis -g redis /data" \
    'WORKDIR /data'
build "docker.io/$prometheus" \
    "prometheus wget && install -d -o nobody -g nogroup /prometheus" \
    'USER nobody
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]'
