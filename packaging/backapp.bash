# bash completion for backapp(1)

_backapp_options() {
    case $1 in
    mirror)
        echo "--delete --exclude --include --checksum --dry-run --keep-versions --inplace --verify --no-acls" \
            "--no-xattrs --no-hard-links --one-file-system --exclude-caches --exclude-if-present" \
            "--exclude-larger-than --max-delete --force --confirm --bwlimit --nice --ionice --engine --jobs" \
            "--recover --json --verbose -v --help -h"
        ;;
    verify) echo "--jobs --json --help -h" ;;
    *) echo "--help -h" ;;
    esac
}

_backapp() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "mirror verify worker version help --version --help -h" -- "$current")
        return
    fi
    case $previous in
    --engine)
        mapfile -t COMPREPLY < <(compgen -W "native rsync" -- "$current")
        return
        ;;
    --ionice)
        mapfile -t COMPREPLY < <(compgen -W "idle best-effort" -- "$current")
        return
        ;;
    --exclude | --include | --keep-versions | --exclude-if-present | --exclude-larger-than | --max-delete | \
        --confirm | --bwlimit | --nice | --jobs)
        return
        ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_backapp_options "$command")" -- "$current")
        return
    fi
    case $command in
    help) mapfile -t COMPREPLY < <(compgen -W "mirror verify worker version help" -- "$current") ;;
    mirror | verify)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
        ;;
    esac
}

complete -F _backapp backapp
