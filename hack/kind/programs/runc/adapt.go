package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// capabilities in the order of linux/capability.h.
var capabilities = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID
	SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER
	SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
	SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
	MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
	CHECKPOINT_RESTORE`)

// limits is what the machine grants to nobody.
type limits struct {
	withheld []string // capabilities, as CAP_SYS_RESOURCE
	oomScore int64    // what this process has; lower cannot be had if lowest
	lowest   bool
}

// machine asks the kernel, which answers for this process and its children.
func machine() limits {
	const prCapbsetRead = 23
	var l limits
	for number, name := range capabilities {
		has, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prCapbsetRead, uintptr(number), 0)
		if errno == 0 && has == 0 {
			l.withheld = append(l.withheld, "CAP_"+name)
		}
	}
	l.lowest = slices.Contains(l.withheld, "CAP_SYS_RESOURCE")
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err == nil {
		l.oomScore, _ = strconv.ParseInt(strings.TrimSpace(string(score)), 10, 64)
	}
	return l
}

// adapt rewrites a specification, if it asks for what is withheld.
func adapt(file string, isProcess bool, l limits) error {
	if len(l.withheld) == 0 {
		return nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	// Numbers stay as they are written: some are larger than a float holds.
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var spec map[string]any
	if err := decoder.Decode(&spec); err != nil {
		return err
	}
	process := spec
	if !isProcess {
		process, _ = spec["process"].(map[string]any)
	}
	if !l.apply(process) {
		return nil
	}
	content, err = json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600)
}

// apply reports whether it changed the process of a specification.
func (l limits) apply(process map[string]any) bool {
	changed := false
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		wanted, _ := set.([]any)
		granted := slices.DeleteFunc(slices.Clone(wanted), func(c any) bool {
			s, _ := c.(string)
			return slices.Contains(l.withheld, s)
		})
		if len(granted) != len(wanted) {
			sets[name], changed = granted, true
		}
	}
	if score, ok := process["oomScoreAdj"].(json.Number); ok && l.lowest {
		if n, err := score.Int64(); err == nil && n < l.oomScore {
			process["oomScoreAdj"], changed = l.oomScore, true
		}
	}
	return changed
}

// cutFlag splits --name=value; -name and --name are the same flag to runc.
func cutFlag(arg string) (name, value string, joined bool) {
	name, value, joined = strings.Cut(arg, "=")
	if strings.HasPrefix(name, "--") {
		name = name[1:]
	}
	return name, value, joined
}
