# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the scripts have in common that build a kernel of our own: from the source package that
# the headers of $KVER belong to, and a fragment of a configuration. They set
#
#	config	the fragment
#	out	where all is made: linux, the source; kbuild, what it compiles to; make.log
#	files	how many it compiles, about
#	kmake	the command that makes it, and its variables
#
# Here are package, the version of that source, and inputs, what such a kernel is made of.

set -eu -o pipefail

: "${KVER:?build-kernel: set KVER to the kernel whose source is to be built}"

fail()
{
	echo "build-kernel: $*" >&2
	exit 1
}

headers=$(scripts/kernel --headers)
package=$(sed -n 's/.*LINUX_PACKAGE_ID " Debian \(.*\)"/\1/p' "$headers/include/generated/package.h")
[ -n "$package" ] || fail "the headers of $KVER do not name the Debian version they were built from"

compile()
{
	# Not by awk: that of Debian 13 waits for much more input than this before it says a word.
	"${kmake[@]}" -C "$out/linux" O="$out/kbuild" -j"$(nproc)" KBUILD_BUILD_USER=kvm-nmi "$@" 2>&1 |
		tee -a "$out/make.log" | {
		seen=0
		while read -r kind _; do
			case $kind in CC | AS) seen=$((seen + 1)) ;; *) continue ;; esac
			[ $((seen % 200)) != 0 ] || echo "build-kernel: $seen of about $files files"
		done
	} ||
		fail "make $* failed, see $out/make.log:
$(grep -v '^make' "$out/make.log" | tail -n 5)"
}

# Of those that not every series has, the options that this source does not have.
unknown_options()
{
	sed -n '/^# Not in every series/,$s/^CONFIG_\([A-Z0-9_]*\)=.*/\1/p' "$config" | while read -r option; do
		grep -rqxE "[[:space:]]*config $option" --include='Kconfig*' "$out/linux" || echo "CONFIG_$option="
	done
}

# An option whose dependencies are not met is dropped without a word.
dropped_options()
{
	grep '^CONFIG_' "$config" | grep -vxF -f "$out/kbuild/.config" | grep -vF -f <(unknown_options) || :
	sed -n 's/^# \(CONFIG_.*\) is not set$/^\1=/p' "$config" | grep -f - "$out/kbuild/.config" || :
}

# Nobody else builds it until this script ends.
lock()
{
	mkdir -p "$out"
	exec 9>"$out/.lock"
	flock 9
	inputs="$package, config $(cksum <"$config"), gcc $(gcc -dumpfullversion)"
}

# The source, configured, in an empty folder.
configure()
{
	tarball=$(scripts/unpack-source --tarball)
	echo "build-kernel: unpacking $tarball"
	find "$out" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
	mkdir "$out/linux"
	tar -x -f "$tarball" -I 'xz -T0' -C "$out/linux" --strip-components=1 ||
		fail "$tarball is damaged or incomplete, or the disk is full"
	compile KCONFIG_ALLCONFIG="$config" allnoconfig
	dropped=$(dropped_options)
	[ -z "$dropped" ] || fail "the source of $package does not grant what $config asks for:
$dropped"
}
