# For the build scripts of the linux and redis guests. REQUIRES ../common/cache.sh.

LINUX_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LINUX_ROOT=$(cd "$LINUX_HERE/../../.." && pwd)
LINUX_SOURCES=("$LINUX_HERE"/{touch.c,init,initramfs.sh} "$LINUX_HERE"/../common/*.{c,h})

# StartInitramfs TREE KERNEL MODULE…: busybox, init, the load and the modules, in loading order.
StartInitramfs() {
  local tree=$1 kernel=$2 module path
  mkdir -p "$tree"/{bin,dev,proc,sys,etc,tmp,run,lib/guest}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  install -m 755 "$LINUX_HERE/init" "$tree/init"
  gcc -std=gnu11 -O2 -static -pthread -I "$LINUX_ROOT" -Wall -Wextra -Wconversion -Wsign-conversion \
    -Wshadow -Werror -o "$tree/bin/touch_load" "$LINUX_HERE/touch.c" \
    "$LINUX_HERE"/../common/{load.c,load_report.c}
  : >"$tree/lib/guest/modules"
  for module in "${@:3}"; do
    path=$(find "$kernel/modules" -name "$module.ko")
    [[ -n $path ]] || { echo "guests: the kernel in $kernel has no module $module" >&2; return 1; }
    cp "$path" "$tree/lib/guest/"
    echo "$module.ko" >>"$tree/lib/guest/modules"
  done
}

# FinishInitramfs TREE FILE
FinishInitramfs() { (cd "$1" && find . -print0 | cpio --null --quiet -o -H newc -R 0:0) >"$2"; }
