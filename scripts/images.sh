#!/usr/bin/env bash
# Build the container images of docker-compose.yml and the chart: wharf-brain, wharf-gateway, wharf-backing and wharf-kube,
# or those named.
# Wheels (pinned, with hashes) and the Kubernetes programs are made outside and copied in, so a build inside needs no
# Python index. WHARF_BASE_IMAGE names another base than debian:bookworm-slim; `--prepare` only fills build/image.
set -euo pipefail
umask 022 # images are read by their own user, whatever the umask of the one who builds them
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly context=build/image python=.venv/bin/python
version=$(sed -n 's/^version = "\(.*\)"/\1/p' cli/pyproject.toml)
say() { printf '==> %s\n' "$*" >&2; }
prepare_only=""
[ "${1:-}" != --prepare ] || { prepare_only=yes; shift; }
[ $# -gt 0 ] || set -- brain gateway backing kube
for target in "$@"; do
    case $target in
        brain | gateway | backing | kube) ;;
        *) echo "no image $target; there are brain, gateway, backing and kube" >&2; exit 2 ;;
    esac
done

[ "$($python -c 'import sys; print(sys.version_info[:2] == (3, 11))')" = True ] || {
    echo "the images run Debian 12's Python 3.11, and the wheels must match: make .venv with python3.11" >&2
    exit 1
}
# Run what fills build/image/FOLDER only when what it is made of has changed: once FOLDER KEY COMMAND...
once() {
    local folder=$context/$1 key=$2
    shift 2
    [ "$(cat "$folder.stamp" 2> /dev/null)" != "$key" ] || return 0
    rm -rf "$folder" "$folder.stamp"
    mkdir -p "$folder"
    "$@" "$folder"
    echo "$key" > "$folder.stamp"
}
key_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

collect() {
    say "collecting pinned wheels"
    # The image's Python may be of an older patch release than this one: take what either needs. Hashes are checked here;
    # what had to be built from source has another one afterwards.
    sed "s/ ; python_full_version [^\\\\]*//" requirements/runtime.txt > $context/wanted.txt
    $python -m pip wheel --quiet --require-hashes --no-deps --no-build-isolation -w "$1" -r $context/wanted.txt
    sed -n "s/^\([^ ].*\) \\\\$/\1/p" requirements/runtime.txt > "$1/pinned.txt"
}

wheel() {
    say "building the wheel of $1"
    rm -rf "$1"/build/lib* # modules that are gone from the sources must not come along
    $python -m pip wheel --quiet --no-deps --no-build-isolation --no-index -w "$2" "./$1"
}

mkdir -p $context/kube
once wheels "$(key_of requirements/runtime.txt)" collect
for member in libs/wire libs/common services/brain services/gateway cli; do
    # shellcheck disable=SC2046 # a list of files
    once "own/${member##*/}" "$(key_of requirements/runtime.txt $(git ls-files "$member"))" wheel "$member"
done
if [[ " $* " = *" kube "* ]]; then
    say "finding the Kubernetes programs"
    rm -rf $context/kube
    mkdir $context/kube
    for program in $($python -m wharf.cli.kube.build kube-apiserver kube-controller-manager kube-scheduler kubectl); do
        install -m 0755 "$program" $context/kube/
    done
fi
rm -rf $context/backing
cp -R deploy/pki.py deploy/backing $context/
chmod -R u=rwX,go=rX $context # a checkout made under umask 077 holds files of mode 0600
[ -z "$prepare_only" ] || exit 0
for target in "$@"; do
    say "building wharf-$target:$version"
    docker build --quiet --target "$target" --tag "wharf-$target:$version" \
        --build-arg BASE="${WHARF_BASE_IMAGE:-debian:bookworm-slim}" --file deploy/Dockerfile $context
done
