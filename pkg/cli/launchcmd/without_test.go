//go:build !cgo || !libvirt_dlopen

package launchcmd

const withLibvirt = false
