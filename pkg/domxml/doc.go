// Package domxml says what libvirt is to be told about a wired pod interface,
// and puts that into a domain's XML.
//
// A domain belongs to whoever wrote it. The package parses it only to learn
// where things are, and splices text in: comments, whitespace, unknown elements,
// other namespaces and everything else come out byte for byte as they went in.
// Putting the same interfaces in twice gives the same text as once.
//
// It does not check a domain against libvirt's schema, and it talks to no
// libvirt.
package domxml
