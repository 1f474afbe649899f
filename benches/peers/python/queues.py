"""pymulproc: a queue of tasks and a queue of answers, each a `QueueCommunication`, shared by the workers.

`queues.py w1|w2 [n=… size=…]`
"""

import multiprocessing
import time

from pymulproc import factory

import contest

WARM_UP = 200
# Tasks on their way. More of them were not faster.
WINDOW = 2000


class Workers:
    def __init__(self, count):
        tasks, answers = factory.QueueCommunication(), factory.QueueCommunication()
        self.tasks, self.answers = tasks.parent(), answers.parent()
        self.processes = [multiprocessing.Process(target=work, args=(tasks, answers)) for _ in range(count)]
        for process in self.processes:
            process.start()

    def send(self, payload):
        self.tasks.send("DO", data=payload)

    def receive(self):
        return self.answers.receive(block=True)[3]

    def end(self):
        for _ in self.processes:
            self.tasks.send("END")
        for process in self.processes:
            process.join()


def work(tasks, answers):
    tasks, answers = tasks.child(), answers.child()
    while True:
        request, _, _, payload = tasks.receive(block=True)
        if request == "END":
            return
        answers.send("DONE", data=payload)


def w1(n=5000):
    workers = Workers(1)
    payloads = contest.numbered(n, 64)
    for _ in range(WARM_UP):
        workers.send(payloads[0])
        workers.receive()
    times, answers = [], []
    contest.start()
    begin = time.perf_counter()
    for payload in payloads:
        sent = time.perf_counter()
        workers.send(payload)
        answer = workers.receive()
        times.append(time.perf_counter() - sent)
        answers.append(answer)
    seconds = time.perf_counter() - begin
    contest.check(answers == payloads, "an answer")
    contest.hand_in(n, seconds, **contest.latencies(times))
    workers.end()


def w2(n=50_000, size=64):
    workers = Workers(2)
    payloads = contest.numbered(n, size)
    echo_all(workers, payloads[:WARM_UP])
    contest.start()
    begin = time.perf_counter()
    answers = echo_all(workers, payloads)
    seconds = time.perf_counter() - begin
    # They come in any order.
    contest.check(sorted(answers) == payloads, "the answers")
    contest.hand_in(n, seconds, bytes=2 * n * size)
    workers.end()


def echo_all(workers, payloads):
    answers = []
    for payload in payloads[:WINDOW]:
        workers.send(payload)
    for payload in payloads[WINDOW:]:
        answers.append(workers.receive())
        workers.send(payload)
    while len(answers) < len(payloads):
        answers.append(workers.receive())
    return answers


if __name__ == "__main__":
    workload, chosen = contest.settings()
    {"w1": w1, "w2": w2}[workload](**chosen)
