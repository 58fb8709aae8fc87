#!/bin/sh
# Tries ./denow, and the software GPU's installation, in a clean Debian made with debootstrap: no Deno, no Vulkan driver, only npm.
#   tests/install/debootstrap.sh bookworm [FOLDER]      (or trixie; FOLDER: where the root goes, 1.5 GB, removed afterwards)
# Needs root, debootstrap and downloads of some 400 MB, and takes minutes: not part of `task test`.
# MIRROR=URL takes another mirror than debootstrap's own.
# Strings in single quotes are for the shell inside.
# shellcheck disable=SC2016
set -eu

suite=${1:?suite, for instance bookworm}
here=$(cd "$(dirname "$0")/../.." && pwd)
base=$(mktemp -d "${2:-/var/tmp}/denow-test.XXXXXX")
target=$base/root
passed=0 failed=0

cleanup() {
  for mount in dev/pts dev sys proc; do
    if mountpoint -q "$target/$mount"; then umount "$target/$mount"; fi
  done
  # Never reaches into a mount that would not go.
  rm -rf --one-file-system "$base"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- The root ------------------------------------------------------------------------------------------------------

echo "making a clean $suite in $target"
debootstrap --variant=minbase --include=ca-certificates "$suite" "$target" ${MIRROR:+"$MIRROR"} >"$base/log" 2>&1 ||
  { tail "$base/log" && exit 1; }
mkdir -p "$target/proc" "$target/sys" "$target/dev"
mount -t proc proc "$target/proc"
mount --bind /sys "$target/sys"
mount --bind /dev "$target/dev"
if mountpoint -q /dev/pts; then mount --bind /dev/pts "$target/dev/pts"; fi

# The network of this machine: certificates, npm's and apt's settings. Packages are then to be had as on the machine.
cp /etc/ssl/certs/ca-certificates.crt "$target/etc/ssl/certs/ca-certificates.crt"
for file in /etc/apt/apt.conf.d/*proxy*; do
  if [ -e "$file" ]; then cp "$file" "$target/etc/apt/apt.conf.d/"; fi
done
if [ -e "$HOME/.npmrc" ]; then cp "$HOME/.npmrc" "$target/root/.npmrc"; fi
settings=$(env | grep -iE '^(https?_proxy|no_proxy|npm_config_[a-z_]*|node_extra_ca_certs|ssl_cert_file)=' || true)

inside() { # user, shell command
  user=$1
  shift
  home=/root
  if [ "$user" != root ]; then home=/home/$user; fi
  # One setting a line, none with spaces.
  # shellcheck disable=SC2086
  chroot "$target" /usr/bin/setpriv --reuid "$user" --regid "$user" --clear-groups \
    /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME="$home" LANG=C.UTF-8 $settings \
    sh -c "$*"
}

inside root 'apt-get -q update && apt-get -q -y install --no-install-recommends npm && useradd -m tester' >"$base/log" 2>&1 ||
  { tail "$base/log" && exit 1; }
inside root 'rm -rf /var/lib/apt/lists/*'

# A path with a space, once for each user.
for checkout in "$target/srv/of root" "$target/srv/of tester"; do
  mkdir -p "$checkout/engine/webgpu"
  cp "$here/denow" "$here/.deno-version" "$checkout/"
  cp "$here/engine/webgpu/software_gpu.sh" "$checkout/engine/webgpu/"
  cat >"$checkout/gpu.ts" <<'TYPESCRIPT'
const adapter = await navigator.gpu.requestAdapter();
console.log(adapter === null ? "no adapter" : adapter.info.description);
TYPESCRIPT
done
inside root 'chown -R tester:tester "/srv/of tester"'
version=$(cat "$here/.deno-version")

# ---- The checks ----------------------------------------------------------------------------------------------------

attempt() { # user, shell command; sets status, stdout, stderr (files)
  start=$(date +%s%N)
  status=0
  inside "$@" >"$base/stdout" 2>"$base/stderr" || status=$?
  milliseconds=$((($(date +%s%N) - start) / 1000000))
  echo "-- $*: status $status, $milliseconds ms"
  sed 's/^/   stdout: /' "$base/stdout"
  sed 's/^/   stderr: /' "$base/stderr"
}

check() { # what, command...
  what=$1
  shift
  if "$@"; then
    echo "   ok: $what" && passed=$((passed + 1))
  else
    echo "   FAILED: $what" && failed=$((failed + 1))
  fi
}

prints() { head -1 "$base/stdout" | grep -q "$1"; }
says() { [ "$(wc -l <"$base/stderr")" = "$1" ] && { [ "$1" = 0 ] || grep -q "$2" "$base/stderr"; }; }
apt_state() { (cd "$target/etc/apt" && find . -type f | sort | xargs sha256sum | sha256sum) && ls "$target/var/tmp" "$target/var/lib/apt/lists"; }
llvmpipe_version() { inside root 'dpkg-query -W -f "\${Version}" mesa-vulkan-drivers'; }
mesa_is_new() { [ "$(llvmpipe_version | cut -d. -f1)" -ge 25 ]; }
succeeds() { [ "$status" = 0 ]; }
apt_unchanged() { [ "$(apt_state)" = "$before" ]; }

echo "== an ordinary user, nothing installed"
attempt tester '"/srv/of tester/denow" --version'
check "runs the pinned Deno" prints "^deno $version "
check "one line, about Deno" says 1 'installing Deno'
attempt tester 'cd /tmp && "/srv/of tester/denow" run "/srv/of tester/gpu.ts"'
check "goes on without a device" prints '^no adapter$'
check "says nothing" says 0
attempt tester 'sh "/srv/of tester/engine/webgpu/software_gpu.sh"'
check "the software GPU is not there: exit status 1" test "$status" = 1
check "one line says what to install" says 1 "no software Vulkan driver: install mesa-vulkan-drivers 25 or newer from $suite-backports, as root"
attempt tester 'rm -rf "/srv/of tester/.deno"; LAMINA_NO_INSTALL=1 "/srv/of tester/denow" --version'
check "LAMINA_NO_INSTALL installs nothing and fails" test "$status" = 1 -a ! -e "$target/srv/of tester/.deno"
attempt tester '
  cd "/srv/of tester"
  ./denow --version >one 2>/dev/null & ./denow --version >two 2>/dev/null
  wait $! && cat one two | grep -c ^deno && ls .deno | grep -c tmp'
check "two installations at once" prints '^2$'
check "nothing of them is left over" test "$(tail -1 "$base/stdout")" = 0

echo "== root, nothing installed"
before=$(apt_state)
attempt root '"/srv/of root/denow" --version'
check "exit status 0" succeeds
check "runs the pinned Deno, stdout is Deno's alone" prints "^deno $version "
check "one line, about Deno" says 1 'installing Deno'
attempt root 'dpkg-query -W mesa-vulkan-drivers libvulkan1 libegl1'
check "installs no driver" test ! -s "$base/stdout"
attempt root 'LAMINA_NO_INSTALL=1 sh "/srv/of root/engine/webgpu/software_gpu.sh"'
check "LAMINA_NO_INSTALL installs no software GPU, and says so in a line" says 1 'no software Vulkan driver: install'
check "and fails" test "$status" = 1
attempt root 'cd / && sh "/srv/of root/engine/webgpu/software_gpu.sh"'
check "the software GPU is installed: exit status 0" succeeds
check "says what it installs, in a line" says 1 "no software Vulkan driver: installing mesa-vulkan-drivers from $suite-backports"
check "Mesa is 25 or newer ($(llvmpipe_version))" mesa_is_new
check "apt's configuration and lists are as before" apt_unchanged
attempt root '"/srv/of root/denow" run "/srv/of root/gpu.ts"'
check "WebGPU has llvmpipe" prints '^llvmpipe '
check "says nothing" says 0
attempt tester '"/srv/of tester/denow" run "/srv/of tester/gpu.ts"'
check "WebGPU has llvmpipe for the user too" prints '^llvmpipe '
check "says nothing" says 0
attempt tester 'sh "/srv/of tester/engine/webgpu/software_gpu.sh"'
check "where it is there, nothing is done or said" says 0
check "exit status 0" succeeds

echo "== other ways to call it"
attempt root 'mkdir -p /srv/links && cd /srv/links && ln -sf "../of root/denow" d && ln -sf d e && cd /tmp && /srv/links/e eval "console.log(Deno.cwd(), Deno.execPath())"'
check "through two relative symbolic links; the working directory is the caller's" prints "^/tmp /srv/of root/.deno/$version/deno\$"
attempt root 'cd "/srv/of root" && sh denow --version'
check "as an argument of sh" prints "^deno $version "
attempt root 'cp "/srv/of root/.deno/'"$version"'/deno" /usr/local/bin/deno; rm -rf "/srv/of root/.deno"
  "/srv/of root/denow" eval "console.log(Deno.execPath())"'
check "takes the pinned Deno on PATH" prints '^/usr/local/bin/deno$'
check "says nothing" says 0
attempt root 'printf "#!/bin/sh\necho deno 1.0.0 \(stable\)\n" >/usr/local/bin/deno; "/srv/of root/denow" --version'
check "refuses another version that has taken its place" prints "^deno $version "
inside root 'rm /usr/local/bin/deno'
attempt root 'cd "/srv/of root"
  time_of() { s=$(date +%s%N); for i in 1 2 3 4 5 6 7 8 9 10; do "$@" >/dev/null; done; echo $((($(date +%s%N) - s) / 10000)); }
  bare=$(time_of .deno/'"$version"'/deno --version); wrapped=$(time_of ./denow --version)
  echo $(((wrapped - bare) / 1000))'
check "adds less than 50 ms ($(cat "$base/stdout") ms)" test "$(cat "$base/stdout")" -lt 50

echo "== the other format of apt's sources, and an old Mesa where the distribution has one"
inside root '
  apt-get -q -y purge mesa-vulkan-drivers libvulkan1 && apt-get -q -y autoremove --purge
  set -- $(cat /etc/apt/sources.list) && rm /etc/apt/sources.list
  printf "# ours\nTypes: deb\nURIs: %s\nSuites: %s %s-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n" \
    "$2" "$3" "$3" >/etc/apt/sources.list.d/debian.sources
  apt-get -q update && apt-get -q -y install --no-install-recommends mesa-vulkan-drivers' >"$base/log" 2>&1 ||
  { tail "$base/log" && exit 1; }
if mesa_is_new; then
  inside root 'apt-get -q -y purge mesa-vulkan-drivers libvulkan1' >/dev/null 2>&1
  expected='no software Vulkan driver: installing'
else
  echo "   Mesa is now $(llvmpipe_version)"
  attempt tester 'sh "/srv/of tester/engine/webgpu/software_gpu.sh"'
  check "one line of advice" says 1 'older than 25.*install mesa-vulkan-drivers 25 or newer'
  check "it serves: exit status 0" succeeds
  expected='older than 25.*installing'
fi
before=$(apt_state)
attempt root 'sh "/srv/of root/engine/webgpu/software_gpu.sh"'
check "says what it installs" says 1 "$expected mesa-vulkan-drivers from $suite-backports"
check "Mesa is 25 or newer ($(llvmpipe_version))" mesa_is_new
attempt root '"/srv/of root/denow" run "/srv/of root/gpu.ts"'
check "WebGPU has llvmpipe" prints '^llvmpipe '
check "apt's configuration and lists are as before" apt_unchanged

echo "== apt without a network"
inside root '
  apt-get -q -y purge mesa-vulkan-drivers libvulkan1
  sed -i "s|^URIs:.*|URIs: http://localhost:9/debian|" /etc/apt/sources.list.d/debian.sources' >/dev/null 2>&1
attempt root 'sh "/srv/of root/engine/webgpu/software_gpu.sh"'
check "fails" test "$status" = 1
check "says so, with the log's name" says 2 'could be installed (see .*driver-install.log)'
attempt root 'sh "/srv/of root/engine/webgpu/software_gpu.sh"'
check "does not try again at once" says 1 'less than an hour ago none could be installed'
check "fails again" test "$status" = 1
attempt root '"/srv/of root/denow" run "/srv/of root/gpu.ts"'
check "denow goes on without a device" prints '^no adapter$'
check "and says nothing" says 0

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
