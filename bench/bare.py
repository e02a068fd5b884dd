"""The reference of `enroll`: a worker whose workflow has one activity, which sends one mail over a kept connection."""

import asyncio
import sys
from datetime import timedelta
from email.message import EmailMessage

import aiosmtplib
import uvloop
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

QUEUE = "bench-bare"


@workflow.defn
class BareWorkflow:
    """One activity."""

    @workflow.run
    async def run(self, address: str) -> None:
        """Have the mail sent."""
        await workflow.execute_activity("send", address, start_to_close_timeout=timedelta(seconds=10))


async def main(temporal_address: str, smtp_port: int) -> None:
    """Work until killed."""
    client = await Client.connect(temporal_address)
    smtp = aiosmtplib.SMTP(hostname="127.0.0.1", port=smtp_port)
    await smtp.connect()

    @activity.defn
    async def send(address: str) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "bench@bench.example", address, "Hello Bench"
        message.set_content("Hello Bench, this is a bench.")
        message.add_alternative("<p>Hello Bench, this is a bench.</p>", subtype="html")
        await smtp.send_message(message)

    async with Worker(client, task_queue=QUEUE, workflows=[BareWorkflow], activities=[send]):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
