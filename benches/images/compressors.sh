# shellcheck shell=bash disable=SC2154 # work, recipes, die: of build.sh
# The compressors behind the world's layers, for build.sh --recipes. Sourced, never run. Every one is
# the writer that the tools themselves use, because a codec that was only tried on one compressor's
# streams has been tried on nothing:
#   go     Go's compress/gzip, level default: docker, BuildKit, ko
#   pgzip  klauspost/pgzip, in independent blocks of 1 MiB: podman, buildah, skopeo (skopeo writes it)
#   zlib   zlib level 6: Jib, Bazel

# compressor_version NAME: what makes the bytes; part of the key of every layer.
compressor_version() {
    case $1 in
    go) go version ;;
    pgzip) skopeo --version ;;
    zlib) python3 -c 'import zlib; print("zlib", zlib.ZLIB_RUNTIME_VERSION)' ;;
    *) die "no compressor '$1'" ;;
    esac
}

compress_go() {
    [ -x "$work/go-gzip" ] || GO111MODULE=off go build -o "$work/go-gzip" "$recipes/gzip.go" || die "go build failed"
    "$work/go-gzip"
}

compress_zlib() {
    python3 -c '
import sys, zlib
deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
while block := sys.stdin.buffer.read(1 << 20):
    sys.stdout.buffer.write(deflate.compress(block))
sys.stdout.buffer.write(deflate.flush())'
}

# skopeo compresses a layer that is not, on its way into a layout, as podman push does.
compress_pgzip() {
    local from=$work/pgzip/from to=$work/pgzip/to digest size config
    rm -rf "$work/pgzip" && mkdir -p "$from/blobs/sha256"
    tee "$from/layer" | sha256sum | cut -d' ' -f1 >"$from/digest"
    digest=$(cat "$from/digest") size=$(stat -c %s "$from/layer")
    mv "$from/layer" "$from/blobs/sha256/$digest" && rm "$from/digest"
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$digest" >"$from/c"
    config=$(sha256sum <"$from/c" | cut -d' ' -f1)
    mv "$from/c" "$from/blobs/sha256/$config"
    jq -cn --arg c "sha256:$config" --argjson s "$(stat -c %s "$from/blobs/sha256/$config")" --arg d "sha256:$digest" --argjson t "$size" '{
        schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $c, size: $s},
        layers: [{mediaType: "application/vnd.oci.image.layer.v1.tar", digest: $d, size: $t}]}' >"$from/m"
    size=$(stat -c %s "$from/m") digest=$(sha256sum <"$from/m" | cut -d' ' -f1)
    mv "$from/m" "$from/blobs/sha256/$digest"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$from/oci-layout"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"x"}}]}' \
        "$digest" "$size" >"$from/index.json"
    skopeo copy -q --insecure-policy "oci:$from:x" "oci:$to:x" >&2 || die "skopeo copy failed"
    digest=$(jq -r '.manifests[0].digest[7:]' "$to/index.json")
    digest=$(jq -r '.layers[0] | select(.mediaType | endswith("tar+gzip")) | .digest[7:]' "$to/blobs/sha256/$digest")
    [ -n "$digest" ] || die "skopeo did not compress the layer"
    cat "$to/blobs/sha256/$digest"
    rm -rf "$work/pgzip"
}
