// Package dhcp6 is the DHCPv6 side of what podwire tells its guest: a request and
// a lease in, the answer out (RFC 8415 and, where it differs, RFC 9915; with 3646,
// 4704, 5908 and 5970).
//
// It is a server for exactly one client, whose addresses are settled before it
// asks. So there is no pool, no state and no clock in here: the same request
// always gets the same answer, and a server that was killed and started again
// answers as before. It opens no sockets and logs nothing; frames are the work of
// package frame, the loop that of package serve. Prefixes and routes are not told
// here but in router advertisements, by package ra.
//
// Messages are read and written here and not by insomniacslk/dhcp, of which only
// the numbers and their names are used: that library reads every option of a
// message at once and follows compressed names without a bound, so that one
// message of 9000 octets keeps it busy for seconds, and one odd option that
// nobody needs makes it refuse all the others.
package dhcp6
