# bash completion for backapp(1)

_backapp_options() {
    local selection="--exclude --include --one-file-system --exclude-caches --exclude-if-present --exclude-larger-than"
    local mirror="--checksum --dry-run --keep-versions --inplace --verify --no-acls --no-xattrs --no-hard-links"
    local s3="--trash --storage-class --class-for --s3-prefix --relist --relist-days --versions-keep --read-back --encrypt"
    s3+=" --concurrency --sse --sse-kms-key --state-dir"
    local stores="--endpoint --region --provider --profile --ca-file --path-style"
    local safety="--max-delete --force --confirm" limits="--bwlimit --nice --ionice" shown="--json --verbose -v --help -h"
    case $1 in
    mirror) echo "--delete $selection $mirror $safety $limits --engine --jobs --recover $shown" ;;
    two-stage) echo "--only-s3 --delete $selection $mirror $s3 $stores $safety $limits --engine --jobs $shown" ;;
    s3sync) echo "--delete $selection --checksum --dry-run --verify $s3 $stores $safety $limits $shown" ;;
    restore)
        echo "--to --to-tar --to-zip --name --passphrase-file --at --list --conflict --delete --checksum --dry-run" \
            "--no-acls --no-xattrs --thaw --thaw-tier" \
            "--max-delete --force --concurrency $stores $limits $shown"
        ;;
    archive)
        echo "--type --level --zstd --no-compress --encrypt --volume-size --full-every $selection --checksum --dry-run" \
            "--verify --no-acls --no-xattrs --storage-class --sse --sse-kms-key --state-dir --jobs --name" \
            "--keep-last --keep-hourly --keep-daily --keep-weekly --keep-monthly --keep-yearly --keep-within --count" \
            "--days --timezone --simulate --unfinished --passphrase-file --force $stores $limits $shown"
        ;;
    drill)
        echo "--at --files --max-bytes --seed --source --name --passphrase-file $stores $limits --json --help -h"
        ;;
    ls) echo "--at --recursive -R --long -l --name --passphrase-file $stores --json --help -h" ;;
    verify)
        echo "--full --at --name --jobs --read-back --concurrency --passphrase-file --state-dir $stores $limits --json" \
            "--help -h"
        ;;
    store) echo "$stores --long -l --json --help -h" ;;
    key) echo "--passphrase-file --new-passphrase-file --import --force $stores --json --help -h" ;;
    *) echo "--help -h" ;;
    esac
}

# The words that an option's value may be.
_backapp_values() {
    local classes="STANDARD STANDARD_IA INTELLIGENT_TIERING ONEZONE_IA GLACIER_IR GLACIER DEEP_ARCHIVE"
    case $1 in
    --engine) echo "native rsync" ;;
    --ionice) echo "idle best-effort" ;;
    --provider) echo "aws scaleway ovhcloud hetzner exoscale b2 wasabi r2 any" ;;
    --storage-class) echo "$classes" ;;
    --sse) echo "AES256 aws:kms" ;;
    --conflict) echo "overwrite if-newer skip rename" ;;
    --thaw-tier) echo "Standard Bulk Expedited" ;;
    --at) echo "latest" ;;
    --type) echo "full incremental differential" ;;
    esac
}

_backapp() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    local commands="mirror two-stage s3sync archive restore ls verify drill store key worker version help"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands --version --help -h" -- "$current")
        return
    fi
    case $previous in
    --engine | --ionice | --provider | --storage-class | --sse | --conflict | --thaw-tier | --at | --type)
        mapfile -t COMPREPLY < <(compgen -W "$(_backapp_values "$previous")" -- "$current")
        return
        ;;
    --to | --state-dir | --source)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        return
        ;;
    --ca-file | --passphrase-file | --new-passphrase-file | --to-tar | --to-zip)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --exclude | --include | --keep-versions | --exclude-if-present | --exclude-larger-than | --max-delete | \
        --confirm | --bwlimit | --nice | --jobs | --trash | --class-for | --s3-prefix | --relist-days | \
        --versions-keep | --concurrency | --sse-kms-key | --endpoint | --region | --profile | --thaw | \
        --level | --volume-size | --full-every | --name | --keep-last | --keep-hourly | --keep-daily | --keep-weekly | \
        --keep-monthly | --keep-yearly | --keep-within | --count | --days | --timezone | --files | --max-bytes | --seed)
        return
        ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_backapp_options "$command")" -- "$current")
        return
    fi
    case $command in
    help) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current") ;;
    store)
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "test ls cat rm" -- "$current")
            return
        fi
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        ;;
    archive)
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "create list find diff retention reindex" -- "$current")
            return
        fi
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        ;;
    key)
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "create add remove list export" -- "$current")
            return
        fi
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        ;;
    mirror | two-stage | s3sync | restore | ls | verify | drill)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        ;;
    esac
}

complete -F _backapp backapp
