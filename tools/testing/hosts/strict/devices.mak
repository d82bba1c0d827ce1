# SPDX-License-Identifier: GPL-2.0-only
# What the hosts use of a PC: files of this machine, serial ports.
CONFIG_I440FX=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_9P=y
CONFIG_ISA_DEBUG=y
