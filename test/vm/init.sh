#!/bin/busybox sh
# init of the initial root: makes the real one on the disk and goes there. Its arguments are vm.sh's.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r m; do insmod "/modules/$m" || echo "init: $m"; done </modules/list

mount -t ext4 /dev/vda /new || { echo 'init: no disk'; poweroff -f; }
src=$1
cd /new
mkdir -p usr etc proc sys dev run tmp var/tmp var/lib root home modules/lib/modules vm cache ".$src"
chmod 1777 tmp var/tmp
chmod 700 root
for d in bin sbin lib lib64; do ln -s usr/$d $d; done
cp -a /alternatives etc/
share() { mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 "$1" "$2"; }
share usr usr
share src ".$src"
share modules modules/lib/modules
share bin vm
share cache cache
mkdir -p var/lib/dpkg
share dpkg var/lib/dpkg
cd /
umount /proc /sys
mount --move /dev /new/dev
exec switch_root /new /bin/bash "$src/test/vm/guest.sh" "$@"
