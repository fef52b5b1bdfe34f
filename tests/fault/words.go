package fault

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// native is the byte order of the two architectures that there are tests for.
var native = binary.LittleEndian

// rtnetlink are its messages by type, without the reading ones.
var rtnetlink = map[uint16]string{
	unix.RTM_NEWLINK: "NEWLINK", unix.RTM_DELLINK: "DELLINK", unix.RTM_SETLINK: "SETLINK",
	unix.RTM_NEWADDR: "NEWADDR", unix.RTM_DELADDR: "DELADDR",
	unix.RTM_NEWROUTE: "NEWROUTE", unix.RTM_DELROUTE: "DELROUTE",
	unix.RTM_NEWNEIGH: "NEWNEIGH", unix.RTM_DELNEIGH: "DELNEIGH",
	unix.RTM_NEWRULE: "NEWRULE", unix.RTM_DELRULE: "DELRULE",
	unix.RTM_NEWQDISC: "NEWQDISC", unix.RTM_DELQDISC: "DELQDISC",
	unix.RTM_NEWTFILTER: "NEWTFILTER", unix.RTM_DELTFILTER: "DELTFILTER",
}

// nftables are its messages by type, without the reading ones.
var nftables = map[uint16]string{
	unix.NFT_MSG_NEWTABLE: "NEWTABLE", unix.NFT_MSG_DELTABLE: "DELTABLE", unix.NFT_MSG_NEWCHAIN: "NEWCHAIN", unix.NFT_MSG_DELCHAIN: "DELCHAIN",
	unix.NFT_MSG_NEWRULE: "NEWRULE", unix.NFT_MSG_DELRULE: "DELRULE", unix.NFT_MSG_NEWSET: "NEWSET", unix.NFT_MSG_DELSET: "DELSET",
	unix.NFT_MSG_NEWSETELEM: "NEWSETELEM", unix.NFT_MSG_DELSETELEM: "DELSETELEM",
}

var nftablesReads = []uint16{
	unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETSET, unix.NFT_MSG_GETSETELEM,
	unix.NFT_MSG_GETGEN, unix.NFT_MSG_GETOBJ, unix.NFT_MSG_GETOBJ_RESET,
}

// send is a message or several of netlink, or a frame.
func (c *Call) send(asked target) error {
	domain, protocol, err := asked.socket()
	if err != nil {
		return err
	}
	c.What = named(domain, protocol)
	if domain != unix.AF_NETLINK {
		return nil
	}
	raw, err := asked.payload(c.Name)
	if err != nil {
		return err
	}
	var all []string
	c.Changes = false
	for len(raw) >= unix.SizeofNlMsghdr {
		length, kind := int(native.Uint32(raw)), native.Uint16(raw[4:])
		word, changes := message(protocol, kind)
		all = append(all, word)
		c.Changes = c.Changes || changes
		raw = raw[min(len(raw), max(unix.SizeofNlMsghdr, (length+3)&^3)):]
	}
	c.What += " " + strings.Join(all, " ")
	return nil
}

// payload is the beginning of what is sent.
func (t target) payload(name string) ([]byte, error) {
	const most = 64 << 10
	if name == "sendto" {
		return t.memory(t.args[1], int(min(t.args[2], most)))
	}
	header, err := t.memory(t.args[1], unix.SizeofMsghdr)
	if err != nil || len(header) < unix.SizeofMsghdr {
		return nil, err
	}
	first, err := t.memory(native.Uint64(header[16:]), unix.SizeofIovec) // msg_iov
	if err != nil || len(first) < unix.SizeofIovec {
		return nil, err
	}
	return t.memory(native.Uint64(first), int(min(native.Uint64(first[8:]), most)))
}

// message names a message of netlink, and says whether it changes anything.
func message(protocol int, kind uint16) (string, bool) {
	switch protocol {
	case unix.NETLINK_ROUTE:
		if kind&3 == 2 {
			return fmt.Sprintf("GET(%d)", kind), false // each object has four types, in the same order
		}
		return word(rtnetlink, kind), true
	case unix.NETLINK_NETFILTER:
		subsystem, kind := kind>>8, kind&0xff
		switch {
		case subsystem == 0:
			return "batch", false // its beginning or its end
		case subsystem != unix.NFNL_SUBSYS_NFTABLES:
			return fmt.Sprintf("%d:%d", subsystem, kind), kind != 1
		case slices.Contains(nftablesReads, kind):
			return fmt.Sprintf("GET(%d)", kind), false
		}
		return word(nftables, kind), true
	default:
		return word(nil, kind), protocol != unix.NETLINK_SOCK_DIAG
	}
}

func word(of map[uint16]string, kind uint16) string {
	if s, ok := of[kind]; ok {
		return s
	}
	return fmt.Sprintf("type %d", kind)
}

// named is a socket by its address family and its protocol.
func named(domain, protocol int) string {
	if domain != unix.AF_NETLINK {
		return family(uint16(domain))
	}
	switch protocol {
	case unix.NETLINK_ROUTE:
		return "rtnetlink"
	case unix.NETLINK_NETFILTER:
		return "nfnetlink"
	}
	return fmt.Sprintf("netlink %d", protocol)
}

func family(domain uint16) string {
	of := map[uint16]string{
		unix.AF_UNIX: "unix", unix.AF_INET: "inet", unix.AF_INET6: "inet6", unix.AF_NETLINK: "netlink", unix.AF_PACKET: "packet",
	}
	if s, ok := of[domain]; ok {
		return s
	}
	return fmt.Sprintf("family %d", domain)
}

func request(number uint32) string {
	of := map[uint32]string{
		unix.TUNSETIFF: "TUNSETIFF", unix.TUNGETIFF: "TUNGETIFF", unix.TUNSETPERSIST: "TUNSETPERSIST", unix.TUNSETOWNER: "TUNSETOWNER",
		unix.TUNSETGROUP: "TUNSETGROUP", unix.TUNSETQUEUE: "TUNSETQUEUE", unix.TUNSETVNETHDRSZ: "TUNSETVNETHDRSZ", unix.TUNSETOFFLOAD: "TUNSETOFFLOAD",
	}
	if s, ok := of[number]; ok {
		return s
	}
	return fmt.Sprintf("%#x", number)
}

func option(level, number uint64) string {
	of := map[[2]uint64]string{
		{unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}: "SO_ATTACH_FILTER", {unix.SOL_SOCKET, unix.SO_RCVBUF}: "SO_RCVBUF",
		{unix.SOL_SOCKET, unix.SO_RCVTIMEO_NEW}: "SO_RCVTIMEO", {unix.SOL_SOCKET, unix.SO_SNDTIMEO_NEW}: "SO_SNDTIMEO",
		{unix.SOL_NETLINK, unix.NETLINK_EXT_ACK}: "NETLINK_EXT_ACK", {unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK}: "NETLINK_GET_STRICT_CHK",
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING}: "PACKET_IGNORE_OUTGOING", {unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP}: "PACKET_ADD_MEMBERSHIP",
	}
	if s, ok := of[[2]uint64{level, number}]; ok {
		return s
	}
	return fmt.Sprintf("%d:%d", level, number)
}
