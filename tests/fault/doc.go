// Package fault runs a program and has a test say of each system call of chosen kinds
// whether it is made: it goes on, or it fails with an error number and is never made, or
// the process is killed right before it.
//
// It is done by seccomp (see seccomp_unotify(2)). The thread that starts the program puts
// a filter on itself that has the kernel ask before such a call, and ends once the program
// is started; the program, its threads and its children inherit the filter. Nothing is
// traced, so that all other calls are made at full speed, and a run takes some
// milliseconds longer than without. The calls of all threads and children are asked about
// one after another, and are counted in one sequence, other than by strace, which counts
// those of each thread.
//
// Not every call is counted. What Go's runtime does by itself comes at any time: its
// writes to an eventfd, its looks at cgroups. So do writes to standard output and error.
// Nor is a receive where there is nothing yet to receive. What is left of podwire's setup
// and teardown comes in the same order at each run, as a test of this package holds.
//
// A call that is to be made is made as it was asked for (SECCOMP_USER_NOTIF_FLAG_CONTINUE).
// A server that the program leaves behind is asked about as long as it lives.
package fault
