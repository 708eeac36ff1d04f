#!/usr/bin/env bash
# Build the container images of docker-compose.yml and the chart: wharf-brain, wharf-kube and wharf-backing.
# Wheels (pinned, with hashes) and the Kubernetes programs are made outside and copied in, so a build inside needs no
# Python index. WHARF_BASE_IMAGE names another base than debian:bookworm-slim; `--prepare` only fills build/image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly context=build/image python=.venv/bin/python
version=$(sed -n 's/^version = "\(.*\)"/\1/p' cli/pyproject.toml)
say() { printf '==> %s\n' "$*" >&2; }

[ "$($python -c 'import sys; print(sys.version_info[:2] == (3, 11))')" = True ] || {
    echo "the images run Debian 12's Python 3.11, and the wheels must match: make .venv with python3.11" >&2
    exit 1
}
mkdir -p $context
key=$(cat requirements/runtime.txt */*/pyproject.toml cli/pyproject.toml */*/setup.py \
    $(git ls-files 'libs/*/src' 'services/*/src' 'cli/src') | sha256sum | cut -d' ' -f1)
if [ "$(cat $context/wheels.stamp 2> /dev/null)" != "$key" ]; then
    say "collecting pinned wheels"
    rm -rf $context/wheels $context/wheels.stamp
    # The image's Python may be of an older patch release than this one: take what either needs.
    sed "s/ ; python_full_version [^\\\\]*//" requirements/runtime.txt > $context/wanted.txt
    $python -m pip download --quiet --require-hashes --only-binary :all: -d $context/wheels -r $context/wanted.txt
    say "building wharf's own wheels"
    for member in libs/wire libs/common services/brain cli; do
        $python -m pip wheel --quiet --no-deps --no-build-isolation --no-index -w $context/wheels "./$member"
    done
    echo "$key" > $context/wheels.stamp
fi
say "finding the Kubernetes programs"
rm -rf $context/kube
mkdir $context/kube
for program in $($python -m wharf.cli.kube.build kube-apiserver kube-controller-manager kube-scheduler kubectl); do
    ln "$program" $context/kube/ 2> /dev/null || cp "$program" $context/kube/
done
rm -rf $context/backing
cp -R requirements/runtime.txt deploy/pki.py deploy/backing $context/
[ "${1:-}" != --prepare ] || exit 0
for target in brain kube backing; do
    say "building wharf-$target:$version"
    docker build --quiet --target "$target" --tag "wharf-$target:$version" \
        --build-arg BASE="${WHARF_BASE_IMAGE:-debian:bookworm-slim}" --file deploy/Dockerfile $context
done
