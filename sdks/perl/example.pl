#!/usr/bin/env perl
# A worker: printf 'a b a\n' | stokehold run --request word_count -- perl example.pl
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Stokehold::Worker qw(serve);

serve({ word_count => sub { my %count; $count{$_}++ for split ' ', $_[0]; \%count } });
