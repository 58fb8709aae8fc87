#!/bin/sh
# Installs Mesa's software Vulkan driver (llvmpipe), a GPU in name only, for what checks kernels on one: the tests and
# `./denow task doctor --software-gpu`. Nothing else needs it: without a GPU Lamina computes on the CPU.
#   sh engine/webgpu/software_gpu.sh
#
# Linux only. Where the driver is there, in Mesa 25 or newer, nothing happens. Otherwise it is installed, as root on Debian
# and its kin; elsewhere one line says what to install. Exit status 0 where a driver is there in the end, an old one too.
#
# It never runs sudo. Everything it says goes to stderr. LAMINA_NO_INSTALL=1 forbids installing anything.
set -eu

say() {
  printf 'lamina: %s\n' "$*" >&2
}

may_install() {
  case ${LAMINA_NO_INSTALL:-0} in 0) ;; *) return 1 ;; esac
}

# Where the Vulkan loader and, for it, the manifest of llvmpipe are. The llvmpipe of Mesa 22 declares Vulkan 1.3 in its
# manifest, that of Mesa 25 declares 1.4: reading one small file tells them apart.
find_driver() { # sets state: present, old or missing
  state=present
  # Where drivers are named, those count, and no others.
  [ -z "${VK_DRIVER_FILES-}${VK_ICD_FILENAMES-}" ] || return 0
  loader='' llvmpipe=''
  for file in /usr/lib/*/libvulkan.so.1 /usr/lib/libvulkan.so.1 /usr/lib64/libvulkan.so.1 \
    /lib/*/libvulkan.so.1 /usr/local/lib/libvulkan.so.1 /usr/local/lib/*/libvulkan.so.1 /run/opengl-driver; do
    if [ -e "$file" ]; then loader=$file; fi
  done
  folders=/etc:/usr/local/etc:/usr/local/share:/usr/share:/run/opengl-driver/share
  folders=$folders:${XDG_CONFIG_DIRS-}:${XDG_DATA_DIRS-}:${XDG_DATA_HOME:-${HOME-}/.local/share}
  saved_ifs=$IFS
  IFS=:
  for folder in $folders; do
    for file in "$folder"/vulkan/icd.d/*lvp_icd*.json; do
      if [ -r "$file" ]; then llvmpipe=$file; fi
    done
  done
  IFS=$saved_ifs
  if [ -z "$llvmpipe" ] || [ -z "$loader" ]; then state=missing && return 0; fi
  while read -r line || [ -n "$line" ]; do
    case $line in *'"api_version"'*'"1.'[0-3].*) state=old ;; esac
  done <"$llvmpipe"
}

# apt's sources for a distribution's backports: the entries of the machine's own sources for the distribution itself,
# with the suite's name changed, so that mirror, keyring and options stay the machine's.
backports_sources() { # codename, folder to write to
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    if [ -r "$file" ]; then cat "$file"; fi
  done | sed -nE "s/^[ \t]*deb[ \t]+((\[[^]]*\][ \t]+)?[^ \t]+)[ \t]+$1[ \t]+(.*[ \t])?main([ \t].*)?\$/deb \1 $1-backports main/p" \
    >"$2/lamina-backports.list"
  for file in /etc/apt/sources.list.d/*.sources; do
    if [ -r "$file" ]; then cat "$file" && echo; fi
  done | awk -v suite="$1" '
    BEGIN { RS = ""; FS = "\n" }
    {
      deb = named = main = 0; enabled = 1; stanza = ""
      for (i = 1; i <= NF; i++) {
        line = $i
        words = " " line " "
        gsub(/[ \t]+/, " ", words)
        if (line ~ /^Types:/) deb = words ~ / deb /
        if (line ~ /^Components:/) main = words ~ / main /
        if (line ~ /^Enabled: *no/) enabled = 0
        if (line ~ /^Suites:/) { named = index(words, " " suite " "); line = "Suites: " suite "-backports" }
        stanza = stanza line "\n"
      }
      if (deb && named && main && enabled) print stanza
    }' >"$2/lamina-backports.sources"
}

# The machine's apt configuration, lists and package cache stay as they are: sources, lists and downloads of this
# installation live in a folder that is removed afterwards.
install_driver() (
  # /var/tmp, as /tmp may be memory; apt's own user must be able to enter.
  scratch=$(mktemp -d /var/tmp/lamina.XXXXXX)
  trap 'rm -rf "$scratch"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  chmod 755 "$scratch"
  mkdir -p "$scratch/sources" "$scratch/lists/partial" "$scratch/cache/archives/partial"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    if [ -r "$file" ]; then cp "$file" "$scratch/sources/"; fi
  done
  if [ "$distribution" = debian ] && [ -n "$codename" ] &&
    ! grep -hs "^[^#]*$codename-backports" "$scratch"/sources/* >/dev/null; then
    backports_sources "$codename" "$scratch/sources"
  fi
  run_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -y -q \
      -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$scratch/sources" \
      -o Dir::State::lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o DPkg::Lock::Timeout=300 "$@" </dev/null
  }
  # A third party's source may fail; whether the driver can be had, the installation itself tells.
  run_apt update || :
  { [ "$distribution" = debian ] &&
    run_apt install --no-install-recommends -t "$codename-backports" mesa-vulkan-drivers libvulkan1; } ||
    run_apt install --no-install-recommends mesa-vulkan-drivers libvulkan1
)

[ "$(uname)" = Linux ] || { say "a software GPU is installed on Linux only" && exit 1; }
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)

find_driver
case $state in
  present) exit 0 ;;
  old) trouble="Mesa's software Vulkan driver is older than 25, several times slower than a newer one" ;;
  missing) trouble="no software Vulkan driver" ;;
esac
distribution='' codename='' kin=''
if [ -r /etc/os-release ]; then
  # shellcheck disable=SC1091
  distribution=$(. /etc/os-release && echo "${ID-}")
  # shellcheck disable=SC1091
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
  # shellcheck disable=SC1091
  kin=$(. /etc/os-release && echo "${ID-} ${ID_LIKE-}")
fi
case " $kin " in
  *' arch '*) package=vulkan-swrast ;;
  *' alpine '*) package=mesa-vulkan-swrast ;;
  *suse*) package=libvulkan_lvp ;;
  *) package=mesa-vulkan-drivers ;;
esac
if [ "$distribution" = debian ]; then origin=" from $codename-backports"; else origin=''; fi

log=$root/.deno/driver-install.log
if may_install && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && mkdir -p "$root/.deno" 2>/dev/null; then
  # After a failure not at every start, but again after an hour.
  if [ -n "$(find "$log" -mmin -60 2>/dev/null)" ]; then
    trouble="$trouble, and less than an hour ago none could be installed (see $log)"
  else
    say "$trouble: installing $package$origin, which may take a minute"
    if install_driver >"$log" 2>&1; then
      find_driver
      if [ "$state" = present ]; then rm -f "$log" && exit 0; fi
    fi
    trouble="no Mesa 25 or newer could be installed (see $log)"
  fi
else
  trouble="$trouble: install $package 25 or newer$origin, as root"
fi
say "$trouble"
[ "$state" != missing ]
