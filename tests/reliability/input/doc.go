// Package input tries what podwire's users, and those who mean it ill, may hand it: flags,
// variables, files, domains and annotations of every wrong kind, and state directories in
// which somebody else has put something. The real program runs in a real pod. It has to
// say what is wrong in one line, end with the right code, and touch nothing.
package input
