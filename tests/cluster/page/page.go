// Package page reads the commands out of a page of documentation, so that a test
// can run what its readers are told to type. It runs nothing itself.
package page

import (
	"fmt"
	"strings"
)

// Block is a fenced block of a page.
type Block struct {
	Line     int    // of its first line in the page, counted from 1
	Commands string // with the line ends
}

// Blocks returns the blocks of shell commands of a Markdown page that are marked
// as a test's: those whose opening fence reads
//
//	```sh test=NAME
func Blocks(markdown, test string) ([]Block, error) {
	var blocks []Block
	var fence string // of the block that is open; empty outside
	var wanted bool
	for i, line := range strings.SplitAfter(markdown, "\n") {
		text := strings.TrimSpace(line)
		switch {
		case fence == "" && strings.HasPrefix(text, "```"):
			info := strings.TrimLeft(text, "`")
			fence = text[:len(text)-len(info)]
			if wanted = marked(info, test); wanted {
				blocks = append(blocks, Block{Line: i + 2})
			}
		case fence != "" && text == fence:
			fence = ""
		case fence != "" && wanted:
			blocks[len(blocks)-1].Commands += line
		}
	}
	if fence != "" {
		return nil, fmt.Errorf("reading the page's blocks: the last one is not closed")
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("reading the page's blocks: none is marked \"sh test=%s\"", test)
	}
	return blocks, nil
}

// marked reports whether the words after a fence are those of the test's blocks.
func marked(info, test string) bool {
	words := strings.Fields(info)
	if len(words) < 2 || words[0] != "sh" {
		return false
	}
	for _, word := range words[1:] {
		if word == "test="+test {
			return true
		}
	}
	return false
}
