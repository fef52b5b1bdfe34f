// Package killed tests that podwire may be killed at any moment. Each of its commands is
// killed by SIGKILL at each call by which it changes anything, as tests/fault counts them,
// around each write of the state file as well, in a pod of both families that has all that
// is easily lost; then the command is run again. Afterwards everything is as if it had run
// once: the pod's network, and what podwire says of it.
//
// Long, that is done at each point on each binding, and setup is also followed by
// teardown, and teardown by setup. Short, at each point of setup and teardown on the
// default binding, and at a part of the others.
package killed
