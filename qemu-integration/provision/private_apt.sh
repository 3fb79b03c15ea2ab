# For provisioning scripts: apt with a configuration, lists and cache of its own, without root, so that nothing of the
# machine changes. Its source is the machine's own entry for this Debian release, mirror and signing key included.

FAULTLINE_CACHE=${FAULTLINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/faultline}

Die() { echo "${0##*/}: $*" >&2; exit 1; }

DebianCodename() { . /etc/os-release && echo "${VERSION_CODENAME:-unknown}"; }

# PrivateApt FOLDER apt-get|apt-cache ARG…
PrivateApt() {
  "$2" -q -q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$1/sources" \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o "Dir::State::lists=$1/lists" -o "Dir::Cache=$1/cache" \
    -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "${@:3}"
}

# "file:number" of the machine's entry for a release: a stanza of a .sources file, a line of a .list.
MachineEntry() {
  # Without release information, entries count that apt never read: lists may be empty on a fresh machine.
  apt-get indextargets --no-release-info --format '$(RELEASE)|$(SOURCESENTRY)' 'Created-By: Packages' |
    awk -F'|' -v want="$1" '$1 == want && !seen++ { print $2 }'
}

# PreparePrivateApt FOLDER [SUITE-SUFFIX]: sources for the release, and for RELEASE-SUFFIX where given; reads the lists.
PreparePrivateApt() {
  local folder=$1 suffix=${2-} codename entry file number output
  codename=$(DebianCodename)
  entry=$(MachineEntry "$codename")
  [[ -n $entry ]] || Die "the apt sources have no entry for '$codename' — add the Debian archive to them"
  file=${entry%:*} number=${entry##*:}
  mkdir -p "$folder"/{sources,lists/partial,cache/archives/partial}
  rm -f "$folder"/sources/*
  if [[ $file == *.sources ]]; then
    grep -v '^#' "$file" | awk -v RS= -v n="$number" 'NR == n' >"$folder/sources/release.sources"
    [[ -z $suffix ]] || sed -E "s/^Suites:.*/Suites: $codename-$suffix/I" \
      "$folder/sources/release.sources" >"$folder/sources/$suffix.sources"
  else
    sed -n "${number}p" "$file" >"$folder/sources/release.list"
    [[ -z $suffix ]] || sed -E "s/([[:space:]])$codename([[:space:]])/\\1$codename-$suffix\\2/" \
      "$folder/sources/release.list" >"$folder/sources/$suffix.list"
  fi
  output=$(PrivateApt "$folder" apt-get update --error-on=any 2>&1) ||
    Die "cannot read the archive of $codename${suffix:+-$suffix} ($(tail -n 1 <<<"$output"))" \
      "— check the network and the apt sources"
}

# UnpackPackages FOLDER TARGET PACKAGE…: downloads and unpacks them below TARGET.
UnpackPackages() {
  local folder=$1 target=$2 debs deb
  debs=$(mktemp -d "$folder/debs.XXXXXX")
  (cd "$debs" && PrivateApt "$folder" apt-get download "${@:3}" >&2) || {
    rm -rf "$debs"
    Die "cannot download ${*:3} — check the network"
  }
  for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$target"; done
  rm -rf "$debs"
}
