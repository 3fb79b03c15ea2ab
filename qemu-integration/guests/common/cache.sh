# For the build scripts of the guests: each keeps its results in a folder of the cache that is named after the
# sources' content, so that nothing is built twice and a changed source never meets an old result.

FAULTLINE_CACHE=${FAULTLINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/faultline}

# CachePath NAME FILE…: the folder for what is built from these files. Arguments that are no files count as text.
# Few processes: under emulation each costs a tenth of a second.
CachePath() {
  local name=$1 item files=()
  shift
  for item in "$@"; do [[ ! -f $item ]] || files+=("$item"); done
  {
    for item in "$@"; do [[ -f $item ]] || echo "$item"; done
    sha256sum -- "${files[@]}" | cut -d ' ' -f 1
  } | sha256sum | sed "s|^\(.\{16\}\).*|$FAULTLINE_CACHE/guests/$name-\1|"
}

# A fresh folder beside the results, gone at exit if it was not published.
WorkFolder() {
  mkdir -p "$FAULTLINE_CACHE/guests"
  mktemp -d "$FAULTLINE_CACHE/guests/work.XXXXXX"
}

# PublishWork WORK FOLDER: in one step; if somebody else was faster, theirs stays.
PublishWork() {
  chmod 755 "$1"
  mv -T "$1" "$2" 2>/dev/null || rm -rf "$1"
}
