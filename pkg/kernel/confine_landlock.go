//go:build linux && !cgo

package kernel

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	rights "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

const (
	readFiles  = landlock.AccessFSSet(rights.AccessFSReadFile)
	readDirs   = readFiles | rights.AccessFSReadDir
	removeFile = landlock.AccessFSSet(rights.AccessFSRemoveFile)
	makeFile   = landlock.AccessFSSet(rights.AccessFSMakeReg)
)

// newestRules is the ABI whose rights are restricted, in so far as the kernel has
// them. The next one's are about UDP, of which an answer to the guest's port could not
// be told from anything else.
var newestRules = landlock.V9

const newestABI = 9

// portDNS is where nameservers are asked.
const portDNS = 53

// restrictFiles has the kernel refuse all files outside of the bounds, TCP but to
// nameservers, and signals and abstract sockets to other processes. It returns
// the version of the rules.
func restrictFiles(b Bounds) (abi int, err error) {
	abi, err = rights.LandlockGetABIVersion()
	if err != nil {
		return 0, err
	}
	var rules []landlock.Rule
	for _, path := range b.Read {
		if rule, ok := mayRead(path); ok {
			rules = append(rules, rule)
		}
	}
	rules = append(rules,
		landlock.PathAccess(makeFile, b.Create...).IgnoreIfMissing(),
		landlock.PathAccess(removeFile, b.Remove...).IgnoreIfMissing())
	if b.Ask {
		rules = append(rules, landlock.ConnectTCP(portDNS))
	}
	if err := newestRules.BestEffort().Restrict(rules...); err != nil {
		return 0, err
	}
	return min(abi, newestABI), nil
}

// mayRead is the rule for something that is there. A rule is about a file, not about
// a name: what takes its place later needs that of the directory. A directory such as
// /etc holds too much else for that: what is renamed over a file there is not read, and the
// guest keeps what it was told.
func mayRead(path string) (landlock.Rule, bool) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, false
	}
	if dir := filepath.Dir(path); real != path && strings.HasPrefix(real, dir+"/") {
		real = dir
	}
	info, err := os.Stat(real)
	if err != nil {
		return nil, false
	}
	if info.IsDir() {
		return landlock.PathAccess(readDirs, real), true
	}
	if dir := filepath.Dir(real); strings.Count(dir, "/") > 1 {
		real = dir
	}
	return landlock.PathAccess(readFiles, real), true
}
