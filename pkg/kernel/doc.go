// Package kernel is podwire's only hand on the Linux kernel: it reads what a
// network namespace holds and takes the steps that a plan lists, over netlink,
// ioctl and sockets. No program is started for it and no shell.
//
// It decides nothing. What is to be done, and in which order, is said by
// package plan; what was there before is said by the snapshot that the step
// carries. Every step can be done twice and undone twice, from any state that a
// killed run may have left behind.
//
// All of it is for Linux. Errors keep the kernel's errno in their chain, so that
// errors.Is(err, fs.ErrPermission) and its like work on them.
package kernel
