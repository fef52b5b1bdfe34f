// Package dhcp4 is the DHCPv4 side of what podwire tells its guest: a request and
// a lease in, the answer out (RFC 2131, with 2132, 3396, 3397, 3442, 4039, 4361
// and 6842).
//
// It is a server for exactly one client, whose address is settled before it asks.
// So there is no pool, no state and no clock in here: the same request always
// gets the same answer, and a server that was killed and started again answers
// as before. It opens no sockets and logs nothing; frames are the work of
// package frame, the loop that of package serve.
//
// Requests are decoded by insomniacslk/dhcp. Replies are encoded here, because
// options go out in the order in which the client asked for them and, where they
// are more than its message holds, into the file and sname fields.
package dhcp4
