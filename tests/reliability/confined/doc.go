// Package confined has the tests of what podwire can do and may do: that each command needs no
// more than the capabilities that README names, and that a server which a guest has
// taken over could do nothing but serve. All of it is real: the kernel is asked what it lets the
// server's threads do, and real clients are served by it meanwhile.
package confined
