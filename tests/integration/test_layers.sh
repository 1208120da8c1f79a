#!/usr/bin/env bash
# tools/check-layers finds an include that points up, sideways or at a .c file, and nothing else.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

check() {
    timeout 60 "$root/tools/check-layers" "$work" </dev/null >"$work/output" 2>&1
}

no() {
    echo "not ok $1: $2"
    sed 's/^/    /' "$work/output"
    failed=1
}

# A small tree with an include of every allowed kind.
plant() {
    mkdir -p "$work/src/$(dirname "$1")"
    printf '%b' "$2" >"$work/src/$1"
}

plant base/error.h '#pragma once\n#include <glib.h>\n'
plant crypto/hash.h '#pragma once\n#include "base/error.h"\n'
plant fs/walk.h '#pragma once\n#include "base/error.h"\n'
plant fs/walk.c '#include "walk.h"\n'
plant engine/mirror/mirror.h '#pragma once\n#include "fs/walk.h"\n#include "crypto/hash.h"\n'
plant engine/verify/verify.h '#pragma once\n#include <base/error.h>\n'
plant job/spec.h '#pragma once\n#include "base/error.h"\n'
plant job/worker_main.c '#include "job/spec.h"\n#include "engine/mirror/mirror.h"\n'
plant cli/main.c '#include "job/spec.h"\n#include "fs/walk.h"\n#include "engine/verify/verify.h"\n'

if check; then
    echo "ok allowed_includes"
else
    no allowed_includes "a tree without a fault was refused"
fi

# Each: name, planted file, its text, and what the finding must say.
finds() {
    plant "$2" "$3"
    if check; then
        no "$1" "was not found"
    elif ! grep -qF "src/$2:$4" "$work/output"; then
        no "$1" "the finding does not say \"src/$2:$4\""
    elif ! grep -qF 'check-layers: 1 includes' "$work/output"; then
        no "$1" "more than the one fault was reported"
    else
        echo "ok $1"
    fi
    rm "$work/src/$2"
}

finds up_from_base base/bad.h '#include "fs/walk.h"\n' '1: base may not include fs'
finds up_from_fs fs/bad.c '#include "fs/walk.h"\n\n  #  include "engine/mirror/mirror.h"\n' '3: fs may not include engine'
finds up_in_angles fs/bad.c '#include <job/spec.h>\n' '1: fs may not include job'
finds up_by_path engine/mirror/bad.h '#include "../../job/spec.h"\n' '1: engine may not include job'
finds up_into_cli job/bad.c '#include "cli/main.c"\n' '1: includes cli/main.c: a .c file'
finds sideways_layer fs/bad.c '#include "crypto/hash.h"\n' '1: fs may not include crypto'
finds sideways_engine engine/mirror/bad.c '#include "engine/verify/verify.h"\n' '1: engine/mirror may not include engine/verify'
finds job_beside_worker_main job/bad.c '#include "engine/mirror/mirror.h"\n' '1: job may not include engine'
finds c_file fs/bad.c '#include "fs/walk.c"\n' '1: includes fs/walk.c'
finds missing_file fs/bad.c '#include "fs/none.h"\n' '1: fs/none.h is not found'
finds computed_name fs/bad.c '#define FILE "job/spec.h"\n#include FILE\n' '2: an include must name its file'
finds after_comment fs/bad.c '/* one\n two */ #include "job/spec.h"\n' '2: fs may not include job'
finds unknown_layer misc/bad.h '#pragma once\n' ' lies in no layer'
rmdir "$work/src/misc"

plant fs/quiet.c '/*\n#include "job/spec.h"\n*/\n// #include "job/spec.h"\n'
if check; then
    echo "ok comments_are_skipped"
else
    no comments_are_skipped "an include in a comment was taken for one"
fi
rm "$work/src/fs/quiet.c"

rm -r "$work/src"
mkdir "$work/src"
if check; then
    no empty_tree "a tree without a file passed"
else
    echo "ok empty_tree"
fi
exit "$failed"
