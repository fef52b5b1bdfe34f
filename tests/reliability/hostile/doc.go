// Package hostile has the tests of a guest that means ill: one that floods the server, and
// one that says what no client should. The other guest, a real client's, is to notice
// nothing, and the node's memory and processors little.
package hostile
