# shellcheck shell=sh
# Images of a host. Needs: containers.sh, whose list_containers sets $containers

# Id, kind and platform, and what is printed of an image. `index` reads fields that older programs of Docker
# do not know.
IMAGE_FORMAT='{{.Id}} {{with index . "Descriptor"}}{{index . "mediaType"}}{{else}}-{{end}} {{.Os}}/{{.Architecture}}{{with index . "Variant"}}/{{.}}{{end}} {"id":{{json .Id}},"digests":{{json .RepoDigests}},"descriptor":{{json (index . "Descriptor")}}}'

# Print "NAME MANIFEST JSON" for each of the images that the host has. Docker answers in the order of the
# names, unless one is missing.
#   inspect_images NAME...
inspect_images() {
    if answers=$(query_images "$@"); then
        print_images "$answers" "$@"
    else
        for image; do
            { ! answers=$(query_images "$image") || print_images "$answers" "$image"; } &
        done
        wait
    fi
}

# Print Docker's answers, and fail if the host lacks an image.
#   query_images NAME...
query_images() {
    docker image inspect --format "$IMAGE_FORMAT" "$@" 2>/dev/null
}

# Print answers with the names that they belong to. MANIFEST is the platform's manifest of an index, unless a
# listed container runs it and thus shows it. Engines before 28.1 do not tell it.
#   print_images ANSWERS NAME...
print_images() {
    answers=$1
    shift
    printf '%s\n' "$answers" | while [ "$#" -gt 0 ] && read -r id kind platform shown; do
        manifest=-
        case $kind in
            *index* | *manifest.list*)
                case ${containers-} in
                    *"\"image\":\"$id\",\"manifest\":{"*) ;;
                    *)
                        manifest=$(
                            docker image inspect --platform "$platform" --format '{{.Id}}' "$1" 2>/dev/null
                        ) || manifest=-
                        ;;
                esac
                ;;
        esac
        printf '%s %s %s\n' "$1" "$manifest" "$shown"
        shift
    done
}
