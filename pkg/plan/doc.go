// Package plan turns what discover found into the ordered steps that give a
// pod's network to its virtual machine.
//
// A plan is a value: it can be printed, compared, written to the state file and
// read back. The same findings and configuration give the same plan, byte for
// byte; nothing in here asks the kernel, the clock or chance. Each step carries
// what it takes to do it and what it takes to undo it, so that a teardown needs
// the state file alone.
//
// The order of steps is decided here and nowhere else: first what disturbs
// nothing (the tap, the bridge, their filters), then the short part in which
// the pod gives its address away.
package plan
