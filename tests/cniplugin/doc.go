// Package cniplugin tests podwire as a CNI plugin, chained after the real plugins
// bridge and ptp by libcni, on a node and with pods that are namespaces of the
// test's own.
package cniplugin
